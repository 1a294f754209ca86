"""One log line and two metrics for every request. Neither holds a query string: people put secrets there."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog
from flask import g

from app.here import these_notes, this_request
from app.web import current_web
from core import metrics

if TYPE_CHECKING:
    from flask import Flask, Response
    from prometheus_client import Counter, Histogram

LOGGER: Final = "app.access"
log = structlog.get_logger(LOGGER)
THRESHOLD: Final = logging.getLogger(LOGGER)

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
    asked, notes = this_request(), these_notes()
    seconds = current_web().clock.now() - notes.began
    route = asked.url_rule.rule if asked.url_rule else "unmatched"
    # A client may invent methods; a metric must not grow with them.
    method = asked.method if asked.method in METHODS else "other"
    _requests(route, method, str(response.status_code)).inc()
    _seconds(route, method).observe(seconds)
    level = logging.DEBUG if asked.path.startswith(QUIET) else logging.INFO
    if THRESHOLD.isEnabledFor(level):  # to find out through structlog costs as much as all the above
        caller = notes.get("caller")
        log.log(
            level,
            "request",
            method=method,
            path=asked.path,
            status=response.status_code,
            milliseconds=round(seconds * 1000, 1),
            address=asked.remote_addr,
            key=caller.key_name if caller else None,
        )
    return response


@lru_cache(maxsize=1024)
def _requests(route: str, method: str, status: str) -> Counter:
    return metrics.REQUESTS.labels(route, method, status)


@lru_cache(maxsize=256)
def _seconds(route: str, method: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(route, method)
