"""Errors told to Sentry, with SENTRY_DSN and the extra `sentry`: every line of a log with the level error or above, ours or a
library's, as it is logged. Nothing of sentry-sdk is imported without. What is secret is taken out as in `core.redaction`;
variables, requests and users are not sent at all.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from core.errors import ConfigurationError
from core.version import VERSION

if TYPE_CHECKING:
    from structlog.typing import Processor

    from core.settings import Settings

FLUSH_SECONDS: Final = 2.0
"""So long a process that is about to die waits for Sentry."""
LEVELS: Final = {"critical": "fatal"}
"""Where Sentry's names differ from ours."""


class Teller(logging.Handler):
    """Hands lines to Sentry. Its formatter makes JSON of them, without secrets."""

    def __init__(self, sdk: Any) -> None:
        super().__init__(logging.ERROR)
        self._sdk = sdk

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line as an event, from a thread of the library's own: nobody waits for Sentry."""
        if record.name.startswith("sentry_sdk"):
            return
        try:
            line = json.loads(self.format(record))
            self._sdk.capture_event(self._event(line, _raised(record)))
            if record.levelno >= logging.CRITICAL:
                self._sdk.flush(FLUSH_SECONDS)
        except Exception:  # noqa: BLE001  (whatever it is, the line itself is written)
            self.handleError(record)

    def _event(self, line: dict[str, Any], raised: Any) -> dict[str, Any]:
        event: dict[str, Any] = {}
        if raised is not None:
            event, _ = self._sdk.utils.event_from_exception(raised, self._sdk.get_client().options)
        tags = {name: str(line.pop(name)) for name in ("process", "request_id", "session_id", "task") if line.get(name)}
        level = str(line.pop("level"))
        line.pop("exception", None)  # the event has it
        message, logger = str(line.pop("event")), line.pop("logger", None)
        known = {"level": LEVELS.get(level, level), "logger": logger, "logentry": {"message": message}}
        return event | known | {"tags": tags, "extra": line}


def _raised(record: logging.LogRecord) -> Any:
    """Return the exception a line is about, as `sys.exc_info` does; structlog has it among the line's members."""
    raised: Any = record.exc_info
    if raised is None and isinstance(record.msg, dict):
        raised = record.msg.get("exc_info")
    if raised is True:
        raised = sys.exc_info()
    if isinstance(raised, BaseException):
        raised = (type(raised), raised, raised.__traceback__)
    return raised if raised and raised[0] is not None else None


def open_teller(settings: Settings, redact: Processor) -> logging.Handler:
    """Return a handler that tells Sentry. Raises ConfigurationError without the extra, or with an address that is none."""
    try:
        import sentry_sdk
        import sentry_sdk.utils
        from sentry_sdk.integrations.atexit import AtexitIntegration
        from sentry_sdk.integrations.dedupe import DedupeIntegration
    except ImportError as missing:
        raise ConfigurationError(["SENTRY_DSN needs sentry-sdk: install the extra `sentry`."]) from missing
    try:
        sentry_sdk.init(
            dsn=settings.sentry_dsn,
            release=f"jelmore@{VERSION}",
            environment=settings.jelmore_env,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[AtexitIntegration(callback=lambda *_: None), DedupeIntegration()],
            include_local_variables=False,
            send_default_pii=False,
            max_breadcrumbs=0,
            before_send=lambda event, _: redact(None, "", event),  # type: ignore[arg-type, return-value]
        )
    except sentry_sdk.utils.BadDsn as fault:
        raise ConfigurationError(["SENTRY_DSN is no address of Sentry's."]) from fault
    logging.getLogger("urllib3.connectionpool").setLevel(
        logging.ERROR
    )  # three lines for each event while Sentry is away
    return Teller(sentry_sdk)
