"""Settling a session in the place of a holder that is lost: fence first, then salvage, then one transaction.

Every step may be repeated, by this process or another, until the last one is through: `worker` stays in the row until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from core import metrics
from core.errors import Fenced
from core.programs import is_resumable
from models import claims, segments
from models.endings import Ending
from models.events import Origin
from models.lifecycle import FINAL, Reason, Status
from streams import closing, stored
from streams.appender import Batch
from streams.entries import pack

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from core.settings import Settings
    from models.database import Database
    from models.tables import Session
    from streams.appender import Appender
    from streams.entries import Entry
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

HOUSEKEEPING = Origin("housekeeping")


@dataclass(frozen=True, slots=True)
class Salvage:
    """Where lost holders' sessions are settled. Redis errors pass through: the caller decides how long to wait for it."""

    settings: Settings
    database: Database
    appender: Appender
    queue: TaskQueue

    def end(self, session_id: UUID, ending: Ending, *, at: datetime, with_redis: bool = True) -> bool:
        """Take a session from its holder; write its end, or let it begin again if its program can.

        False if it had ended, or somebody wrote in between.
        """
        fence = self._take_fence(session_id)
        if fence is None:
            return False
        salvaged = self._salvage(session_id, fence) if with_redis else Salvaged([], torn=True)
        settled = self._settle(session_id, fence, ending, salvaged, at)
        if settled is None:
            return False
        metrics.TAKEOVERS.inc()
        if settled.restarted:
            self._start_again(session_id, fence, settled, with_redis)
        elif with_redis:
            self.appender.end(session_id, fence, settled.said)
        return True

    def _take_fence(self, session_id: UUID) -> int | None:
        with self.database.transaction() as tx:
            session = claims.take_fence(tx, session_id)
            return None if session.status in FINAL else session.fence

    def _salvage(self, session_id: UUID, fence: int) -> Salvaged:
        """Take what Redis has. If it has forgotten the session since it was last stored, readers may have seen more."""
        head = self.appender.raise_fence(session_id, fence)
        last = self._stored(session_id)
        return Salvaged(self.appender.tail(session_id, last), torn=head < max(1, last))

    def _stored(self, session_id: UUID) -> int:
        with self.database.transaction() as tx:
            return segments.last(tx, session_id)[0]

    def _settle(self, session_id: UUID, fence: int, ending: Ending, salvaged: Salvaged, at: datetime) -> Settled | None:
        try:
            with self.database.transaction() as tx:
                session = claims.held(tx, session_id, fence)
                if session.status in FINAL:
                    return None
                # What nobody had claimed has shown nothing. `started_at` would not tell: readers may be ahead of it.
                torn = salvaged.torn and session.worker is not None
                tail = stored.tail_of(tx, session_id, salvaged.entries, torn=torn)
                restarts = ending.reason is Reason.WORKER_LOST and can_begin_again(session, self.settings)
                if restarts:
                    said = closing.reopen(tx, session, ending.reason, tail, HOUSEKEEPING, at=at)
                else:
                    said = closing.close(tx, session, ending, tail, HOUSEKEEPING, at=at)
                return Settled(restarts, session.priority, session.request_id, said)
        except Fenced:
            log.warning("somebody wrote during a take-over; it is repeated", session_id=str(session_id))
            return None

    def _start_again(self, session_id: UUID, fence: int, settled: Settled, with_redis: bool) -> None:
        """Tell readers, and ask for a worker. Should either fail, readers look and housekeeping sends again."""
        metrics.RESTARTS.inc()
        if with_redis:
            packed = [(entry.seq, pack(entry)) for entry in settled.said]
            self.appender.append([Batch(session_id, fence, packed, may_create=True)])
        self.queue.start(session_id, priority=settled.priority, request_id=settled.request_id)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What Redis had behind the stored part of a log. `torn`: perhaps not all that readers were shown."""

    entries: list[Entry]
    torn: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a session: its log's last entries, and whether they are the beginning of another run."""

    restarted: bool
    priority: str
    request_id: str | None
    said: list[Entry]


def can_begin_again(session: Session, settings: Settings) -> bool:
    """Whether a session whose worker is lost is started again: nobody stops it, its program can resume, and not too often."""
    # That its worker left before it, for an update perhaps, is no sign of what it does to workers.
    lost = session.attempt - (session.program_state or {}).get("hand_overs", 0)
    may = is_resumable(session.program, settings.programs) and lost <= settings.session_restarts
    return may and session.status != Status.TERMINATING


WORKER_LOST = Ending(Reason.WORKER_LOST, error="the worker that ran this session was lost", holder_alive=False)
KEPT_BY_NOBODY = Ending(Reason.REQUESTED, holder_alive=False)
