"""The environment as one frozen object: the only reader of environment variables.

`load_settings` reports every fault of a configuration at once, each as a sentence that names its variable and never its
value: values may be secrets. A field's name is its variable's in lower case; an empty variable is as one that is not set.

Longer than other modules because it is one list: everything that can be set, with unit, default and meaning.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from core import urls
from core.api_keys import ApiKey, parse_api_keys, production_faults
from core.claude_options import UNSOCIABLE_TOOLS, USUAL_MODES
from core.env_values import (
    KIB,
    MIB,
    BrokerUrl,
    Bytes,
    Count,
    DatabaseUrl,
    FlowerPrefix,
    FlowerUrl,
    Level,
    Logins,
    NatsUrl,
    Networks,
    Origins,
    Port,
    RateLimit,
    RedisUrl,
    Roots,
    Seconds,
    Users,
    Words,
    WorkerName,
)
from core.errors import ConfigurationError
from core.programs import BUILT_IN_PROGRAMS, PRODUCTION_PROGRAMS, ConfiguredProgram, parse_programs
from core.rates import Rate
from core.redaction import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REDIS_VARIABLES: Final = ("REDIS_TLS_URL", "REDIS_URL", "REDISCLOUD_URL")
"""Platforms that set the first one set the second as well, to an address without TLS."""
LIBRARYS_SUBJECT: Final = re.compile(r"^(Input|String|Value) (?=should|is )")


def _enabled(value: Any, others: ValidationInfo) -> Any:
    """Fill in the default of PROGRAMS_ENABLED, which looks at the settings that stand before it."""
    if value != ():
        return value
    built_in = PRODUCTION_PROGRAMS if others.data.get("jelmore_env") == "production" else BUILT_IN_PROGRAMS
    return (*built_in, *(program.name for program in others.data.get("jelmore_programs", ())))


EnabledPrograms = Annotated[Words, BeforeValidator(_enabled)]


class Settings(BaseModel):
    """Everything that can be set. Times are seconds, sizes bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, validate_default=True)

    # What this is, and where.
    jelmore_env: Literal["development", "production"] = "development"
    jelmore_home: Path = Path(".jelmore")  # data of `jelmore up`, workspaces of sessions
    log_level: Level = "INFO"
    log_format: Literal["auto", "json", "pretty"] = "auto"  # auto: pretty on a terminal
    log_file: Path | None = None  # beside standard output, always as JSON

    # The web tier.
    api_host: str = "0.0.0.0"
    api_port: Port = 8000
    port: Port | None = None  # beats API_PORT; set by platforms
    api_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = "/api"
    web_concurrency: Count = 1  # web processes
    worker_connections: Count = 1000  # requests at once in one web process
    max_body_bytes: Bytes = MIB
    body_timeout_seconds: Seconds = 10.0  # for a whole body to arrive, and for the head of a connection's first request
    cors_origins: Origins = ()  # default: every origin outside production, none in it
    trusted_proxy_hops: Annotated[int, Field(ge=0)] = 0
    graceful_timeout_seconds: Count = 20  # for open requests when a web process leaves

    # Servers.
    database_url: DatabaseUrl = "postgresql+psycopg2://localhost/jelmore"
    database_pool_size: Count = 10
    database_max_overflow: Annotated[int, Field(ge=0)] = 20
    database_statement_timeout_seconds: Seconds = 5.0
    redis_ssl_cert_reqs: Literal["none", "optional", "required"] = (
        "none"  # for rediss://; platforms sign theirs themselves
    )
    redis_url: RedisUrl = "redis://localhost:6379/0"  # REDIS_TLS_URL beats it; without both: REDISCLOUD_URL
    celery_broker_url: BrokerUrl = ""  # default: REDIS_URL
    nats_url: NatsUrl | None = None  # one server or several, separated by commas; unset: events are not mirrored
    nats_subject_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")] = "jelmore"
    nats_stream_max_age_seconds: Seconds = 7 * 86400
    nats_stream_max_bytes: Bytes | None = None
    nats_duplicate_window_seconds: Seconds = 120
    nats_stream_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    nats_creds: Path | None = None
    nats_mirror_output: bool = False
    nats_publish_tries: Count = 5  # of one event that NATS refuses; then it goes to the dead letters

    # Keys and limits.
    api_keys: Annotated[tuple[InstanceOf[ApiKey], ...], BeforeValidator(parse_api_keys)] = ()
    # Unlike elsewhere, an empty rate is not "not set": it switches the rule off.
    rate_limit_global: RateLimit = Rate(1000, "hour")
    rate_limit_authentication: RateLimit = Rate(10, "minute")  # failed attempts of one address
    rate_limit_session_creation: RateLimit = Rate(20, "minute")
    rate_limit_streaming: RateLimit = Rate(5, "minute")
    rate_limit_websocket: RateLimit = Rate(10, "minute")
    max_streams: Count = 4000  # in one web process
    max_streams_per_key: Count | None = None  # in one web process
    max_concurrent_sessions: Count = 100  # not ended ones, waiting ones too
    max_sessions_per_owner: Count | None = None  # not ended ones, as above

    # Sessions.
    # TOML file or JSON of configured programs
    jelmore_programs: Annotated[
        tuple[InstanceOf[ConfiguredProgram], ...], BeforeValidator(parse_programs), Field(repr=False)
    ] = ()
    programs_enabled: EnabledPrograms = ()  # default: built-in ones, in production without shell, and configured ones
    default_program: str = "claude"
    session_roots: Roots = ()  # where current_directory may be; absolute paths
    session_default_timeout_seconds: Count = 3600
    session_cleanup_interval_seconds: Seconds = 300
    session_monitoring_interval_seconds: Seconds = 30
    session_idle_after_seconds: Seconds = 30
    session_idle_timeout_seconds: Seconds | None = None
    session_max_output_bytes: Bytes = 256 * MIB
    session_max_processes: Count = 256
    session_max_memory_bytes: Annotated[int, Field(ge=16 * MIB)] | None = None  # address space of one process
    session_max_files: Annotated[int, Field(ge=16)] = 1024  # open in one process
    session_max_file_bytes: Bytes | None = None
    session_nice: Annotated[int, Field(ge=0, le=19)] = 10
    session_user: Users | None = None  # a name, a uid, or a range (20000-20999) with one for each live session
    session_sandbox: Literal["bwrap"] | None = None
    session_sandbox_network: bool = False  # whether sandboxed sessions reach the network
    session_restarts: Annotated[int, Field(ge=0)] = 3
    terminate_grace_seconds: Seconds = 5.0

    # Workers.
    worker_slots: Count = 8
    worker_name: WorkerName | None = None  # unique on its host
    dyno: WorkerName | None = None  # set by Heroku, like worker.1: what WORKER_NAME is by default
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
    websocket_ping_seconds: Seconds = 20.0  # who says nothing for three times as long is closed
    websocket_messages_per_second: Count = 100  # of one WebSocket; ten times as many at once

    # Retention.
    retention_output_seconds: Seconds = 30 * 86400
    retention_sessions_seconds: Seconds = 90 * 86400
    retention_events_seconds: Seconds = 30 * 86400
    retention_audit_seconds: Seconds = 365 * 86400
    retention_workspaces_seconds: Seconds = 7 * 86400
    retention_deliveries_seconds: Seconds = 30 * 86400  # webhooks' log, dead letters too

    # Webhooks.
    webhook_allow_private: Networks = ()  # networks that deliveries may reach though they are private
    webhook_timeout_seconds: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 10.0  # for one attempt in all
    webhook_retry_first_seconds: Seconds = 5.0  # after the first failure; then four times as long each time, up to 4 h
    webhook_retry_seconds: Seconds = 86400.0  # for so long a delivery is tried
    webhook_concurrency: Count = 64  # attempts at once in one process

    # Claude Code.
    claude_bin: Path | None = None  # default: `claude` on the PATH, else the one of the extra `claude`
    anthropic_api_key: Annotated[str | None, Field(repr=False)] = None  # sessions can read it: give them a gateway's
    anthropic_base_url: str | None = None
    claude_mcp_config: Path | None = None  # of every session
    claude_models: Words = ()  # that sessions may choose; empty: any
    claude_model: str | None = None  # of sessions that choose none; default: the program's own
    claude_permission_modes: Words = USUAL_MODES  # that sessions may choose
    claude_permission_mode: str = "manual"  # of sessions that choose none
    claude_max_turns: Count | None = None  # of one session
    claude_max_budget_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # of one session
    claude_disallowed_tools: Words = UNSOCIABLE_TOOLS  # of every session
    claude_max_retries: Annotated[int, Field(ge=0, le=100)] = 4  # of one call of the model
    claude_start_seconds: Seconds = 60.0  # until it must have said that it listens
    claude_silence_seconds: Seconds = 900.0  # at work, and silent for so long, it is interrupted

    # Flower and watching.
    flower_address: str = "0.0.0.0"  # where it listens
    flower_port: Port | None = None
    flower_basic_auth: Annotated[Logins, Field(repr=False)] = ()  # user:password
    flower_url_prefix: FlowerPrefix | None = None  # the path under which a proxy shows it
    flower_url: FlowerUrl | None = None  # where people reach it, prefix included; sessions link to it
    prometheus_multiproc_dir: Path | None = None  # where web processes share their numbers
    metrics_port: Port | None = None  # of workers, beat and mirror
    sentry_dsn: Annotated[str | None, Field(repr=False)] = None  # errors are told there; needs the extra `sentry`
    otel_exporter_otlp_endpoint: str | None = None  # spans go there, by HTTP; needs the extra `otel`

    @model_validator(mode="before")
    @classmethod
    def _follow_defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults that depend on other variables."""
        filled = dict(given)
        filled.setdefault("celery_broker_url", given.get("redis_url", cls.model_fields["redis_url"].default))
        production = given.get("jelmore_env") == "production"
        filled.setdefault("cors_origins", () if production else ("*",))
        return filled

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show addresses without their passwords: settings end up in tracebacks."""
        for name, value in super().__repr_args__():
            yield name, urls.without_secrets(value) if isinstance(value, str) else value

    __str__ = BaseModel.__repr__

    @property
    def listen_port(self) -> int:
        """Return the web tier's port."""
        return self.port or self.api_port

    @property
    def in_production(self) -> bool:
        """Whether unsafe defaults are refused."""
        return self.jelmore_env == "production"

    @property
    def programs(self) -> tuple[ConfiguredProgram, ...]:
        """Return the configured programs."""
        return self.jelmore_programs

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what no log may show."""
        passwords = (login.partition(":")[2] for login in self.flower_basic_auth)
        # Short values of programs' variables, like "1", would tear holes into every line.
        variables = (text for program in self.programs for text in program.env.values() if len(text) >= LONG)
        account = (self.anthropic_api_key,) if self.anthropic_api_key else ()
        return (*(key.key for key in self.api_keys), *passwords, *variables, *account)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises ConfigurationError with every fault."""
    variables = _variables(os.environ if environ is None else environ)
    given = {name: value for name, (_, value) in variables.items()}
    settings, refused = _validated(given)
    faults = [f"{variables[name][0]} {why}." for name, reasons in refused.items() if name in given for why in reasons]
    faults += [f"{why}." for names, why in contradictions(settings) if not refused.keys() & names]
    if faults:
        raise ConfigurationError(faults)
    return settings


def contradictions(settings: Settings) -> Iterator[tuple[set[str], str]]:
    """Say what does not fit together, with the names of the settings it is about."""
    if settings.lease_renewal_seconds * 2 > settings.lease_seconds:
        # One renewal may fail without the lease's end.
        yield {"lease_renewal_seconds", "lease_seconds"}, "LEASE_RENEWAL_SECONDS must be at most half of LEASE_SECONDS"
    if settings.worker_watchdog_seconds <= settings.worker_drain_seconds:
        yield (
            {"worker_watchdog_seconds", "worker_drain_seconds"},
            "WORKER_WATCHDOG_SECONDS must be more than WORKER_DRAIN_SECONDS",
        )
    yield from _unknown_programs(settings)
    if settings.in_production:
        yield from (({"api_keys"}, f"API_KEYS {fault}") for fault in production_faults(settings.api_keys))


def _unknown_programs(settings: Settings) -> Iterator[tuple[set[str], str]]:
    known = {*BUILT_IN_PROGRAMS, *(program.name for program in settings.programs)}
    if unknown := sorted({*settings.programs_enabled} - known):
        listed = ", ".join(map(ascii, unknown))
        yield (
            {"programs_enabled", "jelmore_programs"},
            f"PROGRAMS_ENABLED has names that are neither built in nor in JELMORE_PROGRAMS: {listed}",
        )
    # Where it was not said, it may be one that is off: requests then have to name theirs.
    given = "default_program" in settings.model_fields_set
    if given and settings.default_program not in settings.programs_enabled:
        yield (
            {"default_program", "programs_enabled", "jelmore_programs"},
            f"DEFAULT_PROGRAM must be one of the programs enabled: {', '.join(settings.programs_enabled)}",
        )


def _variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return for each setting that is set: (variable, text)."""
    found = {}
    for name in Settings.model_fields:
        for variable in REDIS_VARIABLES if name == "redis_url" else (name.upper(),):
            text = environ.get(variable)
            if text or (text == "" and name.startswith("rate_limit_")):
                found[name] = (variable, text)
                break
    return found


def _validated(given: dict[str, str]) -> tuple[Settings, dict[str, list[str]]]:
    """Return the settings and each faulty one's reasons. A faulty one has its default: the others are to be looked at too."""
    try:
        return Settings.model_validate(given), {}
    except ValidationError as fault:
        refused = _reasons(fault)
    return Settings.model_validate({name: text for name, text in given.items() if name not in refused}), refused


def _reasons(refused: ValidationError) -> dict[str, list[str]]:
    """Say why, by setting, and without the value."""
    reasons: dict[str, list[str]] = {}
    for error in refused.errors(include_url=False, include_input=False, include_context=False):
        ours = reasons.setdefault(str(error["loc"][0]), [])
        for why in LIBRARYS_SUBJECT.sub("", error["msg"].removeprefix("Value error, ")).split("\n"):
            if why not in ours:
                ours.append(why)
    return reasons


def environment() -> dict[str, str]:
    """Return a copy of the environment, for launchers that start processes with it."""
    return dict(os.environ)


def hand_over(prefix: str, variables: Mapping[str, str]) -> None:
    """Set variables of this process for a library that reads them itself, and drop empty ones of the prefix.

    To us an empty variable is as one that is not set; to a library it may be a number that cannot be read.
    """
    for name in [name for name, text in os.environ.items() if name.startswith(prefix) and not text]:
        del os.environ[name]
    os.environ.update(variables)


def multiprocess_directory() -> str | None:
    """Return where web processes share their metrics."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR") or None
