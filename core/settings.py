"""The environment as one frozen object: the only reader of environment variables.

`load_settings` reports every fault of a configuration at once, each as a sentence that names its variable and never its
value: values may be secrets. A field's name is its variable's in lower case; an empty variable is as one that is not set.

Longer than other modules because it is one list: everything that can be set, with unit, default and meaning.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    model_validator,
)

from core import urls
from core.api_keys import ApiKey, check_for_production, parse_api_keys
from core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KIB, MIB = 1024, 1024 * 1024
BUILT_IN_PROGRAMS = ("shell", "echo", "cat")
PRODUCTION_PROGRAMS = ("echo", "cat")


def _listed(value: Any) -> Any:
    """Take a JSON list, or words separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("is not a JSON list") from None
    return [word.strip() for word in value.split(",") if word.strip()]


def _rate(value: Any) -> Any:
    """Take "20/minute": a count and second, minute, hour or day; empty switches the rule off."""
    if value is None:
        return None
    count, _, unit = str(value).partition("/")
    if not count.isdigit() or int(count) < 1 or unit not in ("second", "minute", "hour", "day"):
        raise ValueError("is not of the form 20/minute (second, minute, hour or day)")
    return str(value)


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_listed)]
Rate = Annotated[str | None, BeforeValidator(_rate)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """Everything that can be set. Times are seconds, sizes bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)

    # What this is, and where.
    jelmore_env: Literal["development", "production"] = "development"
    jelmore_home: Path = Path(".jelmore")  # data of `jelmore up`, workspaces of sessions
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["auto", "json", "pretty"] = "auto"  # auto: pretty on a terminal
    log_file: Path | None = None  # beside standard output

    # The web tier.
    api_host: str = "0.0.0.0"
    api_port: Port = 8000
    port: Port | None = None  # beats API_PORT; set by platforms
    api_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = "/api"
    web_concurrency: Count = 1  # web processes
    worker_connections: Count = 1000  # requests at once in one web process
    max_body_bytes: Bytes = MIB
    body_timeout_seconds: Seconds = 10.0  # for a whole body to arrive
    cors_origins: Words = ()  # default: every origin outside production, none in it
    trusted_proxy_hops: Annotated[int, Field(ge=0)] = 0
    graceful_timeout_seconds: Count = 20  # for open requests when a web process leaves

    # Servers.
    database_url: Annotated[str, AfterValidator(urls.database_url)] = "postgresql+psycopg2://localhost/jelmore"
    database_pool_size: Count = 10
    database_max_overflow: Annotated[int, Field(ge=0)] = 20
    database_statement_timeout_seconds: Seconds = 10.0
    redis_url: Annotated[str, AfterValidator(urls.redis_url)] = "redis://localhost:6379/0"
    celery_broker_url: Annotated[str, AfterValidator(urls.broker_url)] = ""  # default: REDIS_URL
    nats_url: str | None = None  # one server or several, separated by commas; unset: events are not mirrored
    nats_subject_prefix: str = "jelmore"
    nats_stream_max_age_seconds: Seconds = 7 * 86400
    nats_stream_max_bytes: Bytes | None = None
    nats_duplicate_window_seconds: Seconds = 120
    nats_stream_replicas: Count = 1
    nats_creds: Path | None = None
    nats_mirror_output: bool = False

    # Keys and limits.
    api_keys: Annotated[tuple[InstanceOf[ApiKey], ...], BeforeValidator(parse_api_keys)] = ()
    rate_limit_global: Rate = "1000/hour"
    rate_limit_authentication: Rate = "10/minute"
    rate_limit_session_creation: Rate = "20/minute"
    rate_limit_streaming: Rate = "5/minute"
    rate_limit_websocket: Rate = "10/minute"
    max_streams: Count = 4000  # in one web process
    max_streams_per_key: Count | None = None
    max_concurrent_sessions: Count = 100
    max_sessions_per_owner: Count | None = None

    # Sessions.
    default_program: str = "shell"
    programs_enabled: Words = ()  # default: all built-in ones; in production without shell
    jelmore_programs: str | None = None  # TOML file or JSON of configured programs
    session_roots: Paths = ()  # where current_directory may be
    session_default_timeout_seconds: Count = 3600
    session_cleanup_interval_seconds: Seconds = 300
    session_monitoring_interval_seconds: Seconds = 30
    session_idle_after_seconds: Seconds = 30
    session_idle_timeout_seconds: Seconds | None = None
    session_max_output_bytes: Bytes = 256 * MIB
    session_max_processes: Count = 256
    session_max_memory_bytes: Bytes | None = None
    session_max_files: Count = 1024
    session_max_file_bytes: Bytes | None = None
    session_nice: Annotated[int, Field(ge=0, le=19)] = 10
    session_user: str | None = None
    session_sandbox: Literal["bwrap"] | None = None
    session_restarts: Annotated[int, Field(ge=0)] = 3
    terminate_grace_seconds: Seconds = 5.0

    # Workers.
    worker_slots: Count = 8
    worker_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None  # unique on its host
    worker_drain_seconds: Seconds = 15.0
    worker_watchdog_seconds: Seconds = 25.0  # a draining worker leaves then whatever the servers do
    lease_seconds: Seconds = 15.0
    lease_renewal_seconds: Seconds = 3.0
    lease_margin_seconds: Seconds = 5.0  # a worker is lost when it was silent for lease and margin
    housekeeping_interval_seconds: Seconds = 5.0
    resend_after_seconds: Seconds = 15.0
    redis_salvage_seconds: Seconds = 60.0  # how long a take-over waits for the Redis tail

    # The log.
    redis_tail_bytes: Bytes = MIB  # of one session
    redis_tail_budget: Bytes = 64 * MIB  # of all sessions of one worker
    unsaved_bytes_per_session: Bytes = MIB
    unsaved_bytes_per_worker: Bytes = 64 * MIB
    segment_interval_seconds: Seconds = 1.0
    segment_bytes: Bytes = 256 * KIB
    redis_ttl_seconds: Count = 3600
    redis_ended_ttl_seconds: Count = 600

    # The relay.
    look_interval_seconds: Seconds = 1.0
    heartbeat_seconds: Seconds = 15.0
    ring_bytes: Bytes = MIB  # of one followed session
    follower_timeout_seconds: Seconds = 60.0  # a follower that takes no byte for so long is closed

    # Retention.
    retention_output_seconds: Seconds = 30 * 86400
    retention_sessions_seconds: Seconds = 90 * 86400
    retention_events_seconds: Seconds = 30 * 86400
    retention_audit_seconds: Seconds = 365 * 86400
    retention_workspaces_seconds: Seconds = 7 * 86400

    # Webhooks.
    webhook_allow_private: Words = ()  # networks that deliveries may reach though they are private
    webhook_timeout_seconds: Seconds = 10.0

    # Claude Code.
    claude_bin: Path | None = None

    # Flower and watching.
    flower_port: Port | None = None
    flower_basic_auth: Words = ()
    flower_url: str | None = None
    prometheus_multiproc_dir: Path | None = None
    metrics_port: Port | None = None
    sentry_dsn: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _follow_defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults that depend on other variables."""
        filled = dict(given)
        filled.setdefault("redis_url", given.get("redis_tls_url") or given.get("rediscloud_url") or cls._redis())
        filled.setdefault("celery_broker_url", filled["redis_url"])
        production = given.get("jelmore_env") == "production"
        filled.setdefault("cors_origins", () if production else ("*",))
        filled.setdefault("programs_enabled", PRODUCTION_PROGRAMS if production else BUILT_IN_PROGRAMS)
        return filled

    @classmethod
    def _redis(cls) -> Any:
        return cls.model_fields["redis_url"].default

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.lease_renewal_seconds * 2 > self.lease_seconds:
            raise ValueError("LEASE_RENEWAL_SECONDS must be at most half of LEASE_SECONDS")
        if self.jelmore_env == "production":
            check_for_production(self.api_keys)
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show addresses without their passwords: settings end up in tracebacks."""
        for name, value in super().__repr_args__():
            yield name, urls.without_password(value) if isinstance(value, str) and "://" in value else value

    __str__ = BaseModel.__repr__

    @property
    def listen_port(self) -> int:
        """Return the web tier's port."""
        return self.port or self.api_port

    @property
    def in_production(self) -> bool:
        """Whether unsafe defaults are refused."""
        return self.jelmore_env == "production"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises ConfigurationError with every fault."""
    variables = os.environ if environ is None else environ
    given = {name.lower(): value for name, value in variables.items() if value != ""}
    names = (*Settings.model_fields, "redis_tls_url", "rediscloud_url")
    known: dict[str, Any] = {name: given[name] for name in names if name in given}
    for name, value in variables.items():
        if value == "" and name.startswith("RATE_LIMIT_"):
            known[name.lower()] = None  # not unset: an empty rate switches the rule off
    try:
        return Settings.model_validate(known)
    except ValidationError as refused:
        raise ConfigurationError(_sentences(refused)) from None


def _sentences(refused: ValidationError) -> list[str]:
    """Say each fault with the variable's name and without its value."""
    faults = []
    for error in refused.errors(include_url=False, include_input=False, include_context=False):
        where = str(error["loc"][0]).upper() if error["loc"] else ""
        why = error["msg"].removeprefix("Value error, ")
        faults.append(f"{where} {why}".strip().rstrip(".") + ".")
    return faults


def environment() -> dict[str, str]:
    """Return a copy of the environment, for launchers that start processes with it."""
    return dict(os.environ)


def multiprocess_directory() -> str | None:
    """Return where web processes share their metrics; the launcher sets it before Python starts."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None
