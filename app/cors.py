"""Browsers of other origins: who may call, what they may send and see. Credentials of a browser are never asked for.

A request without an Origin is no browser's, or one of our own pages; our own origin is always welcome. Preflights need no
key: a browser cannot send one with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import Response, request

from app.limits import HEADERS as LIMITS
from app.web import current_web
from core.errors import OriginNotAllowed

if TYPE_CHECKING:
    from flask import Flask

METHODS: Final = "GET, HEAD, POST, PATCH, DELETE"
SENT: Final = "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, X-Request-ID"
SHOWN: Final = ", ".join(
    (
        "Accept-Ranges",
        "Content-Length",
        "Content-Range",
        "Idempotency-Replayed",
        "Link",
        "Location",
        "Retry-After",
        "WWW-Authenticate",
        *LIMITS,
        "X-Request-ID",
        "X-Total-Count",
    )
)
PREFLIGHT_SECONDS: Final = 600
"""How long a browser need not ask again."""
OPEN: Final = "health"
"""The blueprint that answers everybody."""


def install(app: Flask) -> None:
    """Look at the origin before anything else, and tell browsers what they may."""
    app.before_request(_meet)
    app.after_request(_allow)


def allowed(origin: str) -> bool:
    """Whether pages of this origin may call."""
    origins = current_web().settings.cors_origins
    return "*" in origins or origin.lower() in map(str.lower, origins) or urlsplit(origin).netloc == request.host


def _meet() -> Response | None:
    """Refuse foreign origins, answer preflights."""
    origin = request.headers.get("Origin")
    if origin is None or request.blueprint == OPEN:
        return None
    if not allowed(origin):
        raise OriginNotAllowed
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return _preflight()
    return None


def _preflight() -> Response:
    response = Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = METHODS
    response.headers["Access-Control-Allow-Headers"] = SENT
    response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


def _allow(response: Response) -> Response:
    """Say who may read the answer. Not to whom it was refused, nor without being asked."""
    anybody = "*" in current_web().settings.cors_origins
    if not anybody and "Vary" in response.headers:
        response.vary.add("Origin")
    elif not anybody:
        response.headers["Vary"] = "Origin"
    origin = request.headers.get("Origin")
    if origin is not None and allowed(origin):
        response.headers["Access-Control-Allow-Origin"] = "*" if anybody else origin
        response.headers["Access-Control-Expose-Headers"] = SHOWN
    return response
