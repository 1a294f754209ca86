"""Ending a session in the place of a holder that is lost: fence first, then salvage, then one transaction.

Every step may be repeated, by this process or another, until the last one is through: `worker` stays in the row until then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from core import metrics
from core.errors import Fenced
from models import claims, segments
from models.endings import Ending
from models.events import Origin
from models.lifecycle import FINAL, Reason
from models.segments import Stretch
from streams import closing
from streams.closing import Tail
from streams.entries import EntryKind, pack, unpack_all

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from models.database import Database, Transaction
    from streams.appender import Appender
    from streams.entries import Entry

log = structlog.get_logger(__name__)

HOUSEKEEPING = Origin("housekeeping")
SEGMENTS_AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Salvage:
    """Where lost holders' sessions are ended. Redis errors pass through: the caller decides how long to wait for it."""

    database: Database
    appender: Appender

    def end(self, session_id: UUID, ending: Ending, *, at: datetime, with_redis: bool = True) -> bool:
        """Take a session from its holder and write its end; False if it had ended, or somebody wrote in between."""
        fence = self._take_fence(session_id)
        if fence is None:
            return False
        entries: list[Entry] = []
        if with_redis:
            self.appender.raise_fence(session_id, fence)
            entries = self.appender.tail(session_id, self._stored(session_id))
        final = self._write_end(session_id, fence, ending, entries, at)
        if final and with_redis:
            self.appender.end(session_id, fence, final)
        return bool(final)

    def _take_fence(self, session_id: UUID) -> int | None:
        with self.database.transaction() as tx:
            session = claims.take_fence(tx, session_id)
            return None if session.status in FINAL else session.fence

    def _stored(self, session_id: UUID) -> int:
        with self.database.transaction() as tx:
            return segments.last(tx, session_id)[0]

    def _write_end(
        self, session_id: UUID, fence: int, ending: Ending, entries: list[Entry], at: datetime
    ) -> list[Entry]:
        try:
            with self.database.transaction() as tx:
                session = claims.held(tx, session_id, fence)
                if session.status in FINAL:
                    return []
                final = closing.close(tx, session, ending, tail_of(tx, session_id, entries), HOUSEKEEPING, at=at)
        except Fenced:
            log.warning("somebody wrote during a take-over; it is repeated", session_id=str(session_id))
            return []
        metrics.TAKEOVERS.inc()
        return final


def tail_of(tx: Transaction, session_id: UUID, entries: list[Entry]) -> Tail:
    """Work out where a log stands: what is stored, and of the salvaged entries those that follow without a hole."""
    digest, seq, offset = _stored_output(tx, session_id)
    following: list[Entry] = []
    end = offset
    for entry in entries:
        if entry.seq == seq + len(following) + 1:
            following.append(entry)
            if entry.kind is EntryKind.OUTPUT:
                digest.update(entry.data)
                end += len(entry.data)
    if not following:
        return Tail(seq, offset, digest.hexdigest())
    blob = b"".join(pack(entry) for entry in following)
    stretch = Stretch(session_id, following[0].seq, following[-1].seq, offset, end, blob)
    return Tail(following[-1].seq, end, digest.hexdigest(), [stretch])


def _stored_output(tx: Transaction, session_id: UUID) -> tuple[hashlib._Hash, int, int]:
    """Return (sha256 of the stored output, last stored seq, end of the stored output), a few segments at a time."""
    digest = hashlib.sha256()
    seq = offset = 0
    while stretches := segments.after(tx, session_id, seq, limit=SEGMENTS_AT_A_TIME):
        for stretch in stretches:
            for entry in unpack_all(stretch.blob):
                if entry.kind is EntryKind.OUTPUT:
                    digest.update(entry.data)
        seq, offset = stretches[-1].last_seq, stretches[-1].end_offset
        tx.expire_all()
    return digest, seq, offset


WORKER_LOST = Ending(Reason.WORKER_LOST, error="the worker that ran this session was lost", holder_alive=False)
KEPT_BY_NOBODY = Ending(Reason.REQUESTED, holder_alive=False)
