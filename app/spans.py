"""A span for every request, where OpenTelemetry is wanted: below the client's own, if it names one (`traceparent`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, request

from app.access import QUIET
from core.tracing import TRACING

if TYPE_CHECKING:
    from flask import Flask, Response


def install(app: Flask) -> None:
    """Begin and end spans. Nothing is added to requests when they are not wanted."""
    if TRACING.on:
        app.before_request(_begin)
        app.after_request(_finish)


def _begin() -> None:
    if request.path.startswith(QUIET):
        return
    route = request.url_rule.rule if request.url_rule else "unmatched"
    headers = {name.lower(): value for name, value in request.headers if name.lower().startswith("trace")}
    g.span = TRACING.begin(f"{request.method} {route}", kind="SERVER", headers=headers)
    g.span.note(http__request__method=request.method, http__route=route, jelmore__request_id=g.request_id)


def _finish(response: Response) -> Response:
    span = g.pop("span", None)
    if span is not None:
        span.note(http__response__status_code=response.status_code)
        if response.status_code >= 500:
            span.fail()
        span.end()
    return response
