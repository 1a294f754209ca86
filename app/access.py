"""One log line and two metrics for every request. Neither holds a query string: people put secrets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from flask import g, request

from app.web import current_web
from core import metrics

if TYPE_CHECKING:
    from flask import Flask, Response

log = structlog.get_logger("app.access")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
QUIET: Final = ("/health", "/metrics")
"""Asked every few seconds by machines: worth a line only when debugging."""


def install(app: Flask) -> None:
    """Measure and log every request."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    g.began = current_web().clock.now()


def _finish(response: Response) -> Response:
    seconds = current_web().clock.now() - g.began
    route = request.url_rule.rule if request.url_rule else "unmatched"
    # A client may invent methods; a metric must not grow with them.
    method = request.method if request.method in METHODS else "other"
    metrics.REQUESTS.labels(route, method, str(response.status_code)).inc()
    metrics.REQUEST_SECONDS.labels(route, method).observe(seconds)
    write = log.debug if request.path.startswith(QUIET) else log.info
    caller = g.get("caller")
    write(
        "request",
        method=method,
        path=request.path,
        status=response.status_code,
        milliseconds=round(seconds * 1000, 1),
        address=request.remote_addr,
        key=caller.key_name if caller else None,
    )
    return response
