"""Logs of every process in one shape: JSON lines, or for people on a terminal. Where secrets are taken out: `core.redaction`.

Libraries' lines take the same way as ours. What is bound with `structlog.contextvars.bind_contextvars` (request_id,
session_id) stands in every line of the same request or task, libraries' included.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter

from core.errors import ConfigurationError
from core.faults import open_teller
from core.redaction import redactor

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from core.settings import Settings

CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""JSON spells these itself, and the renderer for people does in all members but the message."""
LEFT_ALONE: Final = "gunicorn.access"
"""The web tier writes one access line a request itself; gunicorn's go to /dev/null."""


def configure(process: str, settings: Settings) -> None:
    """Set up logging for this process; `process` says which one in every line. May be called again, after a fork."""
    chain = _chain(process)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *chain, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    redact = redactor(settings.secrets)
    outputs: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    outputs[0].setFormatter(_formatter(chain, redact, pretty=_is_pretty(settings)))
    if settings.log_file is not None:
        outputs.append(_file(settings))
        outputs[1].setFormatter(_formatter(chain, redact, pretty=False))
    if settings.sentry_dsn is not None:
        outputs.append(open_teller(settings, redact))
        outputs[-1].setFormatter(_formatter(chain, redact, pretty=False))
    logging.basicConfig(handlers=outputs, level=settings.log_level, force=True)
    logging.captureWarnings(capture=True)
    _adopt_libraries()


def _chain(process: str) -> list[Processor]:
    """Return what gathers a line's members, for our lines and for libraries'."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _names(process),
    ]


def _formatter(chain: list[Processor], redact: Processor, *, pretty: bool) -> logging.Formatter:
    """Return what turns a line's members into text. Tracebacks become text before secrets are taken out."""
    render: Processor = structlog.processors.JSONRenderer(_dumps)
    if pretty:
        # Not the default formatter: with rich installed it shows local variables, which may be secrets.
        render = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return ProcessorFormatter(
        foreign_pre_chain=chain,
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            *([_one_line] if pretty else []),
            render,
        ],
    )


def _one_line(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Keep what clients say, a path in a library's message, from looking like a line of ours or commanding a terminal."""
    line["event"] = CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(line.get("event", "")))
    return line


def _is_pretty(settings: Settings) -> bool:
    return settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stdout.isatty())


def _file(settings: Settings) -> logging.Handler:
    """Open the log file, which all processes share; one that was rotated away is opened anew."""
    try:
        return logging.handlers.WatchedFileHandler(str(settings.log_file), encoding="utf-8", errors="backslashreplace")
    except OSError as fault:
        raise ConfigurationError([f"LOG_FILE cannot be opened: {fault.strerror}."]) from fault


def _adopt_libraries() -> None:
    """Take away the outputs that libraries gave their loggers: their lines are to take our way."""
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        if library.handlers and name != LEFT_ALONE:
            library.handlers.clear()
            library.propagate = True
            library.setLevel(logging.NOTSET)


def _dumps(line: Any, **_: Any) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # numbers beyond 64 bits, lone surrogates
        return json.dumps(line, default=str)


def _names(process: str) -> Processor:
    def name(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line["process"] = process
        return line

    return name
