"""What must happen whoever is dead: lost workers' sessions end, forgotten starts are sent again, dead queues go.

One loop under an advisory lock, in the beat process; a second one stands by. It needs no worker, no Celery and no Redis,
only PostgreSQL. Every action may be repeated: two housekeepers at once would do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy import text

from core import metrics
from core.errors import DatabaseUnavailable
from models import backlog, idempotency, workers
from tasks.expiry import Turns
from tasks.queue import SESSIONS, direct_name, redis_lists
from tasks.sealing import Sealer
from tasks.takeover import KEPT_BY_NOBODY, WORKER_LOST, Salvage

if TYPE_CHECKING:
    import threading
    from uuid import UUID

    from redis import Redis

    from core.clock import Clock
    from core.settings import Settings
    from models.backlog import Waiting
    from models.database import Database
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

LOCK = 0x6A656C6F
LONGEST_ROUND_SECONDS = 30
"""One that stands still in the midst of a round leads no more after this: the server ends its connection."""


@dataclass(frozen=True, slots=True)
class Means:
    """What housekeeping works with. `broker` is the Redis of the task queues, None if the broker is no Redis."""

    settings: Settings
    database: Database
    salvage: Salvage
    queue: TaskQueue
    broker: Redis | None
    clock: Clock


class Housekeeper:
    """Runs the rounds while it holds the lock."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._waiting_for_redis: dict[UUID, float] = {}
        self._sealer = Sealer(means.database, means.settings, means.clock)
        self._expiry = Turns(means.database, means.settings, means.clock)

    def keep(self, stop: threading.Event) -> None:
        """Take the lock as soon as it is free, then do a round every few seconds, until told to stop."""
        while not stop.is_set():
            try:
                self._keep_while_leading(stop)
            except DatabaseUnavailable as fault:
                log.warning("housekeeping cannot reach PostgreSQL", error=str(fault.__cause__ or fault))
            stop.wait(min(1.0, self._means.settings.housekeeping_interval_seconds))

    def _keep_while_leading(self, stop: threading.Event) -> None:
        # The lock lives as long as this transaction's connection: it is released with the process, however it ends.
        silent = int(self._means.settings.housekeeping_interval_seconds + LONGEST_ROUND_SECONDS)
        with self._means.database.transaction() as leader:
            leader.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{silent}s'"))
            if not leader.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}):
                return
            while not stop.is_set():
                leader.execute(text("SELECT 1"))  # an idle transaction is ended by the server; this one is not idle
                self.round()
                stop.wait(self._means.settings.housekeeping_interval_seconds)

    def round(self) -> None:
        """Do everything once."""
        with metrics.HOUSEKEEPING_SECONDS.time():
            self._round()

    def _round(self) -> None:
        spared = self._note_run()
        if not spared:
            self._declare_lost()
        self._end_abandoned()
        self._end_unheld()
        self._send_again()
        self._delete_dead_queues()
        self._forget_answers()
        self._sealer.round()
        self._expiry.round()

    def _note_run(self) -> bool:
        settings = self._means.settings
        with self._means.database.transaction() as tx:
            gap = 2 * settings.housekeeping_interval_seconds
            spare = settings.lease_seconds + settings.housekeeping_interval_seconds
            return workers.note_run(tx, "rounds", gap_seconds=gap, spare_seconds=spare)

    def _declare_lost(self) -> None:
        settings = self._means.settings
        silent = settings.lease_seconds + settings.lease_margin_seconds
        with self._means.database.transaction() as tx:
            for name in workers.declare_lost(tx, silent, at=self._means.clock.at()):
                log.error("worker is lost", worker=name, silent_seconds=silent)
                metrics.WORKERS_LOST.inc()

    def _end_abandoned(self) -> None:
        with self._means.database.transaction() as tx:
            abandoned = workers.abandoned(tx)
        for session_id in abandoned:
            self._end_one(session_id)

    def _end_one(self, session_id: UUID) -> None:
        """End a lost holder's session; wait for Redis' tail of it, but not for ever."""
        now = self._means.clock.now()
        since = self._waiting_for_redis.setdefault(session_id, now)
        patient = now - since < self._means.settings.redis_salvage_seconds
        try:
            ended = self._means.salvage.end(session_id, WORKER_LOST, at=self._means.clock.at(), with_redis=patient)
        except RedisError as fault:
            log.warning("waiting for Redis to salvage output", session_id=str(session_id), error=str(fault))
            return
        if ended:
            log.warning("session ended in the place of its lost worker", session_id=str(session_id))
        self._waiting_for_redis.pop(session_id, None)

    def _end_unheld(self) -> None:
        """A stop of a queued session whose end was not written: the web process died in between."""
        with self._means.database.transaction() as tx:
            unheld = workers.unheld_stopping(tx)
        for session_id in unheld:
            self._means.salvage.end(session_id, KEPT_BY_NOBODY, at=self._means.clock.at(), with_redis=False)

    def _send_again(self) -> None:
        """Send the start tasks again that Redis forgot: only if the queue is empty, or a later one was taken."""
        with self._means.database.transaction() as tx:
            waiting = backlog.unclaimed(tx, self._means.settings.resend_after_seconds)
        if not waiting:
            return
        empty = self._queue_is_empty()
        for start in waiting:
            if empty or start.overtaken:
                self._send_one_again(start)

    def _send_one_again(self, start: Waiting) -> None:
        request_id = start.request_id
        if self._means.queue.start(start.session_id, priority=start.priority, request_id=request_id):
            log.info("start sent again", session_id=str(start.session_id), sends=start.sends + 1, request_id=request_id)
            metrics.STARTS_SENT_AGAIN.inc()
            with self._means.database.transaction() as tx:
                backlog.note_sent(tx, start.session_id)

    def _queue_is_empty(self) -> bool:
        if self._means.broker is None:
            return False
        try:
            return not any(self._means.broker.llen(name) for name in redis_lists(SESSIONS))
        except RedisError:
            return False

    def _delete_dead_queues(self) -> None:
        """Direct queues of incarnations that are gone would gather bells for ever."""
        if self._means.broker is None:
            return
        with self._means.database.transaction() as tx:
            dead = workers.recently_gone(tx)
        try:
            for node in dead:
                self._means.broker.delete(*redis_lists(direct_name(node)))
        except RedisError:
            log.debug("dead queues not deleted: Redis is away")

    def _forget_answers(self) -> None:
        with self._means.database.transaction() as tx:
            idempotency.forget_old(tx, at=self._means.clock.at())
