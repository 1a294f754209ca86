"""One worker process at work: a host, its lease, its slots; what tasks and Celery's signals call.

Started by `tasks.worker`, which patches with gevent first; nothing here is imported by the web tier.
"""

from __future__ import annotations

import os
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from uuid import UUID

import gevent
import structlog
from gevent import GreenletExit

from core.errors import DatabaseUnavailable, SessionNotFound
from core.tracing import TRACING
from core.vital import spawn_vital
from models import workers
from models.endings import Ending
from models.events import Origin
from models.lifecycle import Reason
from runner.supervision import Stop
from streams import closing
from tasks import correlation

if TYPE_CHECKING:
    from gevent.event import Event

    from runner.host import Host
    from runner.lease import Lease
    from tasks.capacity import Capacity
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

REVOKED = Stop(Reason.REVOKED, "its task was terminated")
REVOKED_WAITING = Ending(Reason.REVOKED, "its task was revoked before it started")
HOST = Origin("worker")
SHUTDOWN = Stop(Reason.WORKER_SHUTDOWN, "the worker was asked to stop")


class Runtime:
    """What one worker process holds."""

    def __init__(self, host: Host, lease: Lease, capacity: Capacity, queue: TaskQueue) -> None:
        self.host = host
        self.lease = lease
        self.capacity = capacity
        self.queue = queue
        self.draining = False
        self.consumer: Any = None

    def run(self, session_id: UUID, delivery: str) -> None:
        """Run a session and wait for its end. Called in a task; the session itself belongs to the host.

        Terminating the task (GreenletExit) asks for the session's end and waits on; a second one ends the waiting.
        """
        if self.draining:
            self._hand_back(session_id)
            return
        # In a greenlet of its own: a GreenletExit must not fall into the claim's commit.
        starting = gevent.spawn(copy_context().run, self._start, session_id, delivery)
        try:
            over = starting.get()
            if over is not None:
                over.wait()
        except GreenletExit:
            self.host.stop(session_id, REVOKED)
            over = starting.get()
            if over is not None:
                over.wait()

    def _start(self, session_id: UUID, delivery: str) -> Event | None:
        over = None
        try:
            about = {"jelmore.session_id": str(session_id), "jelmore.request_id": correlation.current() or ""}
            with TRACING.span("session start", kind="CONSUMER", headers=correlation.trace(), **about):
                over = self.host.start(session_id, delivery)
        finally:
            if over is None:
                self.capacity.release()
        if over is not None:
            # In a greenlet: the link is called in the hub, and waking the consumer talks to the broker.
            over.rawlink(lambda _: spawn_vital("slot's release", self.capacity.release))
        return over

    def _hand_back(self, session_id: UUID) -> None:
        """A draining worker starts nothing: another one shall."""
        self.capacity.release()
        self.queue.start(session_id, request_id=correlation.current())

    def end_revoked(self, session_id: str) -> None:
        """Its start was revoked while it waited: it never starts. A later send of it finds it ended."""
        try:
            with self.host.world.database.transaction() as tx:
                closing.end_unclaimed(tx, UUID(session_id), REVOKED_WAITING, HOST, at=self.host.clock.at())
        except (DatabaseUnavailable, SessionNotFound) as fault:
            log.warning("revoked session not ended", session_id=session_id, error=str(fault))

    def drain(self) -> None:
        """End every session and leave, in bounded time whatever the servers do."""
        if self.draining:
            return
        self.draining = True
        settings = self.host.world.settings
        gevent.spawn_later(settings.worker_watchdog_seconds, _leave_anyway)
        self.capacity.close(self.consumer)
        gevent.spawn(self._say_draining)
        log.info("draining", sessions=len(self.host.sessions))
        self.host.stop_all(SHUTDOWN)
        if not self.host.wait_until_empty(settings.worker_drain_seconds):
            self.host.hurry_all()
            self.host.wait_until_empty(settings.worker_watchdog_seconds)
        self._leave()

    def _say_draining(self) -> None:
        try:
            with self.host.world.database.transaction() as tx:
                workers.drain(tx, self.host.world.incarnation)
        except DatabaseUnavailable:
            log.warning("could not note that this worker drains")

    def _leave(self) -> None:
        self.lease.give_up()
        try:
            with self.host.world.database.transaction() as tx:
                workers.leave(tx, self.host.world.incarnation)
        except DatabaseUnavailable:
            log.warning("could not note that this worker left")
        self.host.keeper.close()
        log.info("drained")
        self.capacity.hurry_consumer()


def _leave_anyway() -> None:
    log.critical("drain took too long; leaving")
    os._exit(1)


class _Here:
    runtime: Runtime | None = None


def install(runtime: Runtime) -> None:
    """Make this process's runtime known to its tasks."""
    _Here.runtime = runtime


def current() -> Runtime:
    """Return this process's runtime. A task outside `python -m tasks.worker` has none."""
    if _Here.runtime is None:
        raise RuntimeError("sessions run only in a worker started by `python -m tasks.worker`")
    return _Here.runtime
