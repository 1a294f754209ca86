"""Taking secrets out of log lines: known keys, keys by their shape, Authorization values, passwords and tickets in addresses."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from core import urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, WrappedLogger

HIDDEN: Final = "***"
AUTHORIZATION: Final = re.compile(r"""(?i)(\bauthorization["']*\s*[:=]\s*["']*(?:[a-z]+\s+)?)[^\s"',;]+""")
# Also as a WebSocket's subprotocol, bearer.<key>.
BEARER: Final = re.compile(r"""(?i)(\bbearer(?:\s+|\.))[^\s"',;]{4,}""")
JELMORE_KEY: Final = re.compile(r"\bjmr_([A-Za-z0-9-]+)_[A-Za-z0-9_-]+")
SECRET_MEMBERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "password", "secret", "token", "ticket", "api_key"}
)
LONG: Final = 16
"""A known key this long is taken out wherever it stands; a shorter one, like "user", only where it stands alone."""
DEEPEST: Final = 8
PLAIN: Final = (bool, int, float, datetime, UUID)


def redactor(secrets: Iterable[str]) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    """Return a processor for structlog that hides these secrets and whatever looks like one."""
    # The longer first, as one may begin another.
    known = [(secret, _pattern(secret)) for secret in sorted(secrets, key=len, reverse=True) if secret]

    def clean_text(text: str) -> str:
        text = _without_credentials(urls.without_secrets(text))
        for secret, pattern in known:
            if secret in text:
                text = pattern.sub(HIDDEN, text)
        return text

    def clean(value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return clean_text(value)
        if value is None or isinstance(value, PLAIN):
            return value
        if isinstance(value, dict) and depth < DEEPEST:
            return {name: _hidden(name) or clean(member, depth + 1) for name, member in value.items()}
        if isinstance(value, list | tuple | set | frozenset) and depth < DEEPEST:
            return [clean(member, depth + 1) for member in value]
        # Errors, paths and whatever else becomes text in the end: now, so that it can be looked through.
        return clean_text(str(value))

    def redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {name: _hidden(name) or clean(value) for name, value in line.items()}

    return redact


def _hidden(name: Any) -> str | None:
    return HIDDEN if isinstance(name, str) and name.lower() in SECRET_MEMBERS else None


def _without_credentials(text: str) -> str:
    """Hide what looks like a credential. Looking for a few letters first is what makes it cheap: most texts hold none."""
    small = text.lower()
    if "authorization" in small:
        text = AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    if "bearer" in small:
        text = BEARER.sub(rf"\1{HIDDEN}", text)
    return JELMORE_KEY.sub(rf"jmr_\1_{HIDDEN}", text) if "jmr_" in text else text


def _pattern(secret: str) -> re.Pattern[str]:
    whole = re.escape(secret)
    return re.compile(whole if len(secret) >= LONG else rf"(?<![A-Za-z0-9]){whole}(?![A-Za-z0-9])")
