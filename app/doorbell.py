"""Telling workers that there is something to do, after the commit. Nothing here can fail a request.

What is told stands in PostgreSQL: housekeeping sends starts again, and holders look into their mailboxes by themselves.
So a send that fails is counted, and a send that hangs is left behind.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Final

import redis
import structlog
from gevent.pool import Pool

from app.process import is_patched
from core import metrics
from streams import keys
from tasks.queue import LOOK, RUN, SEND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from models.inputs import Bell
    from models.tables import Session
    from streams.appender import Appender
    from streams.entries import Entry
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

PUBLISH_SECONDS: Final = 0.25
"""A message to Redis takes a fraction of a millisecond, or it is not worth waiting for."""
SENDING_AT_ONCE: Final = 64
"""A stopped broker holds each send for seconds. Beyond this many, a new one would only wait behind them."""


class Doorbell:
    """Sends for the requests of one process."""

    def __init__(self, queue: TaskQueue, client: redis.Redis, appender: Appender) -> None:
        self._queue = queue
        self._client = client
        self._appender = appender
        self._sending = Pool(SENDING_AT_ONCE)

    def start(self, session_id: UUID, priority: str, *, request_id: str) -> None:
        """Ask for a worker for a new session."""

        def send() -> None:
            if not self._queue.start(session_id, priority=priority, request_id=request_id):
                metrics.SENDS_FAILED.labels(RUN).inc()

        self._send(RUN, send, wait_seconds=SEND_SECONDS)

    def ring(self, bell: Bell, *, request_id: str) -> None:
        """Tell the holder to look: at once over its channel, and by a task in case that is not heard."""
        incarnation = bell.incarnation
        if incarnation is None:
            return

        def send() -> None:
            if not self._queue.bell(bell, request_id=request_id):
                metrics.SENDS_FAILED.labels(LOOK).inc()

        self._send("publish", lambda: self._publish(incarnation, bell.session_id), wait_seconds=PUBLISH_SECONDS)
        self._send(LOOK, send, wait_seconds=0)

    def end(self, session: Session, final_entries: Sequence[Entry]) -> None:
        """Tell readers of the end of a session that nobody held."""
        self._send(
            "end", lambda: self._appender.end(session.id, session.fence, final_entries), wait_seconds=PUBLISH_SECONDS
        )

    def _publish(self, incarnation: UUID, session_id: UUID) -> None:
        try:
            self._client.publish(keys.holder(incarnation), str(session_id))
        except redis.RedisError as fault:
            metrics.REDIS_ERRORS.labels("doorbell").inc()
            log.debug("doorbell not heard", session_id=str(session_id), error=str(fault))

    def _send(self, what: str, send: Callable[[], None], *, wait_seconds: float) -> None:
        """Send beside the request, which waits so long and no longer; in a plain process, a test's, it is sent here."""
        if not is_patched():
            _quietly(what, send)
        elif self._sending.full():
            metrics.SENDS_FAILED.labels(what).inc()
        else:
            # With the request's context: a greenlet has none, and its log lines would not say for whom.
            sending = self._sending.spawn(copy_context().run, _quietly, what, send)
            if wait_seconds:
                sending.join(timeout=wait_seconds)


def _quietly(what: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception:  # the commit is through: whatever this is, the request has succeeded
        metrics.SENDS_FAILED.labels(what).inc()
        log.exception("a send met an error nobody foresaw", what=what)
