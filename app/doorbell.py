"""Telling workers that there is something to do, after the commit. Nothing here can fail a request.

What is told stands in PostgreSQL: housekeeping sends starts again, and holders look into their mailboxes by themselves.
So a send that fails is counted, and a send that hangs is left behind.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from gevent.pool import Pool

from app.pipe import Parcel, Pipe
from app.process import is_patched
from core import metrics
from streams import keys
from tasks.queue import SEND_SECONDS, look_of, start_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import redis

    from models.inputs import Bell
    from models.tables import Session
    from streams.appender import Appender
    from streams.entries import Entry
    from tasks.messages import Sending
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

PUBLISH_SECONDS: Final = 0.25
"""A message to Redis takes a fraction of a millisecond, or it is not worth waiting for."""
SENDING_AT_ONCE: Final = 64
"""A stopped broker holds each send for seconds. Beyond this many, a new one would only wait behind them."""


class Doorbell:
    """Sends for the requests of one process."""

    def __init__(self, queue: TaskQueue, broker: redis.Redis | None, client: redis.Redis, appender: Appender) -> None:
        self._queue = queue
        self._pipe = Pipe(client)
        # To a broker that is a Redis messages are written here; to any other one Celery sends, in a greenlet each.
        self._tasks = None if broker is None else self._pipe if broker is client else Pipe(broker)
        self._scribe = None if broker is None else queue.scribe(broker)
        self._appender = appender
        self._sending = Pool(SENDING_AT_ONCE)

    def start(self, session_id: UUID, priority: str, *, request_id: str) -> None:
        """Ask for a worker for a new session."""
        self._send_task(start_of(session_id, priority, request_id), wait_seconds=SEND_SECONDS)

    def ring(self, bell: Bell, *, request_id: str) -> None:
        """Tell the holder to look: at once over its channel, and by a task in case that is not heard."""
        if bell.incarnation is None:
            return
        if bell.node is not None:
            self._send_task(look_of(bell.session_id, bell.node, request_id), wait_seconds=0)
        call = ("PUBLISH", keys.holder(bell.incarnation), str(bell.session_id).encode())
        self._pipe.send(Parcel([call], partial(_unheard, bell.session_id)), wait_seconds=PUBLISH_SECONDS)

    def end(self, session: Session, final_entries: Sequence[Entry]) -> None:
        """Tell readers of the end of a session that nobody held."""
        self._send(
            "end", lambda: self._appender.end(session.id, session.fence, final_entries), wait_seconds=PUBLISH_SECONDS
        )

    def _send_task(self, task: Sending, *, wait_seconds: float) -> None:
        if self._tasks is None or self._scribe is None:
            self._send(task.name, partial(self._send_by_celery, task), wait_seconds=wait_seconds)
        else:
            parcel = Parcel(self._scribe.commands(task), partial(_not_sent, task))
            self._tasks.send(parcel, wait_seconds=wait_seconds)

    def _send_by_celery(self, task: Sending) -> None:
        if not self._queue.send(task):
            metrics.SENDS_FAILED.labels(task.name).inc()

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


def _not_sent(task: Sending, fault: str) -> None:
    metrics.SENDS_FAILED.labels(task.name).inc()
    log.warning("task not sent", task=task.name, session_id=str(task.session_id), error=fault)


def _unheard(session_id: UUID, fault: str) -> None:
    metrics.REDIS_ERRORS.labels("doorbell").inc()
    log.debug("doorbell not heard", session_id=str(session_id), error=fault)


def _quietly(what: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception:  # the commit is through: whatever this is, the request has succeeded
        metrics.SENDS_FAILED.labels(what).inc()
        log.exception("a send met an error nobody foresaw", what=what)
