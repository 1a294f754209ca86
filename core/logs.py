"""Logs of every process in one shape: JSON lines, or for people on a terminal. Secrets are taken out on the way."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

    from core.settings import Settings

URL_PASSWORD: Final = re.compile(r"(?<=://)([^/\s:@]*):[^@\s/]+@")
AUTHORIZATION: Final = re.compile(r"(?i)(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}")


def configure(process: str, settings: Settings) -> None:
    """Set up logging for this process; `process` says which one in every line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _names(process),
        redactor([key.key for key in settings.api_keys]),
    ]
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stdout.isatty())
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    outputs: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.log_file:
        outputs.append(logging.FileHandler(settings.log_file))
    for output in outputs:
        output.setFormatter(formatter)
    logging.basicConfig(handlers=outputs, level=settings.log_level, force=True)
    logging.captureWarnings(capture=True)


def _dumps(line: Any, **_: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _names(process: str) -> Processor:
    def name(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        line["process"] = process
        return line

    return name


def redactor(secrets: list[str]) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    """Return a processor that takes known keys, Authorization values and passwords in addresses out of every text."""
    known = re.compile("|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))) if secrets else None

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            value = URL_PASSWORD.sub(r"\1:***@", value)
            value = AUTHORIZATION.sub(r"\1 ***", value)
            return known.sub("***", value) if known else value
        if isinstance(value, dict):
            return {name: clean(member) for name, member in value.items()}
        return [clean(member) for member in value] if isinstance(value, list | tuple) else value

    def redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {name: value if name.startswith("_") else clean(value) for name, value in line.items()}

    return redact
