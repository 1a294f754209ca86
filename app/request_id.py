"""The id of a request: the client's, if it is a decent one, or a new one; returned, logged, carried on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import structlog
from flask import g, request

from core.ids import uuid7

if TYPE_CHECKING:
    from flask import Flask, Response

HEADER: Final = "X-Request-ID"
ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


def install(app: Flask) -> None:
    """Give every request an id."""
    app.before_request(_begin)
    app.after_request(_return)


def current() -> str:
    """Return the id of this request."""
    return str(g.request_id)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    request_id = g.request_id = given if ACCEPTABLE.fullmatch(given) else str(uuid7())
    # One greenlet serves all requests of a connection: what the last one bound must not stay.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def _return(response: Response) -> Response:
    response.headers[HEADER] = current()
    return response
