"""Stretches of a session's log in PostgreSQL. What an entry is, is `streams.entries`'s; here it is bytes.

The primary key (session_id, first_seq) is a compare-and-swap: segments are contiguous, so of two writers that believe
they hold a session only one can store the next stretch. A fence test inside the INSERT did not fence: in READ COMMITTED
232 of 1500 takeovers ended with a stale holder's segments behind the final entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from models.tables import Segment, Session

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from uuid import UUID

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries `first_seq`..`last_seq` of a log, covering the output bytes [first_offset, end_offset)."""

    session_id: UUID
    first_seq: int
    last_seq: int
    first_offset: int
    end_offset: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Look:
    """What PostgreSQL knows of a followed session: enough to see whether a reader is behind."""

    status: str
    last_stored_seq: int
    final_seq: int | None
    """Seq of the last entry of an ended session, else None."""


def store(tx: Transaction, stretches: Sequence[Stretch]) -> set[UUID]:
    """Store one stretch a session in one statement; return the sessions whose stretch was taken.

    A session that is missing in the answer has a stretch with that first_seq already: its own, whose reply was lost,
    or another holder's.
    """
    if not stretches:
        return set()
    statement = insert(Segment).values([_row(stretch) for stretch in stretches])
    taken = tx.execute(statement.on_conflict_do_nothing().returning(Segment.session_id))
    return set(taken.scalars())


def _row(stretch: Stretch) -> dict[str, object]:
    return {
        "session_id": stretch.session_id,
        "first_seq": stretch.first_seq,
        "last_seq": stretch.last_seq,
        "first_offset": stretch.first_offset,
        "end_offset": stretch.end_offset,
        "entries": stretch.blob,
    }


def after(tx: Transaction, session_id: UUID, seq: int, *, limit: int) -> list[Stretch]:
    """Return stored stretches with entries behind `seq`, in order, at most `limit`."""
    # The range over first_seq walks the primary key; the stretch that holds `seq + 1` begins at or before it.
    start = (
        select(func.max(Segment.first_seq))
        .where(Segment.session_id == session_id, Segment.first_seq <= seq + 1)
        .scalar_subquery()
    )
    found = tx.scalars(
        select(Segment)
        .where(
            Segment.session_id == session_id,
            Segment.first_seq >= func.coalesce(start, 0),
            Segment.last_seq > seq,
        )
        .order_by(Segment.first_seq)
        .limit(limit)
    )
    return [_stretch(segment) for segment in found]


def from_offset(tx: Transaction, session_id: UUID, offset: int, *, limit: int) -> list[Stretch]:
    """Return stored stretches with output at or behind byte `offset`, in order, at most `limit`."""
    found = tx.scalars(
        select(Segment)
        .where(Segment.session_id == session_id, Segment.end_offset > offset)
        .order_by(Segment.end_offset, Segment.first_seq)
        .limit(limit)
    )
    return [_stretch(segment) for segment in found]


def backwards(tx: Transaction, session_id: UUID, *, before_seq: int | None, limit: int) -> list[Stretch]:
    """Return the last stretches whose first entry is before `before_seq` (None: the end), newest first."""
    wanted = select(Segment).where(Segment.session_id == session_id)
    if before_seq is not None:
        wanted = wanted.where(Segment.first_seq < before_seq)
    return [_stretch(segment) for segment in tx.scalars(wanted.order_by(Segment.first_seq.desc()).limit(limit))]


def _stretch(segment: Segment) -> Stretch:
    return Stretch(
        segment.session_id,
        segment.first_seq,
        segment.last_seq,
        segment.first_offset,
        segment.end_offset,
        segment.entries,
    )


def last(tx: Transaction, session_id: UUID) -> tuple[int, int]:
    """Return (seq of the last stored entry, byte offset of the stored output's end); (0, 0) if nothing is stored."""
    row = tx.execute(
        select(Segment.last_seq, Segment.end_offset)
        .where(Segment.session_id == session_id)
        .order_by(Segment.first_seq.desc())
        .limit(1)
    ).first()
    return (row.last_seq, row.end_offset) if row else (0, 0)


def begin(tx: Transaction, session_id: UUID) -> int:
    """Return the byte offset at which the stored output begins: 0, or where retention has cut."""
    first = select(Segment.first_offset).where(Segment.session_id == session_id).order_by(Segment.first_seq).limit(1)
    return tx.scalar(first) or 0


def replace(tx: Transaction, stretch: Stretch) -> None:
    """Store a stretch in the place of whatever stands there and behind it. Only for the holder, with the row locked."""
    drop_behind(tx, stretch.session_id, stretch.first_seq - 1)
    store(tx, [stretch])


def drop_behind(tx: Transaction, session_id: UUID, seq: int) -> None:
    """Drop what is stored behind an entry. Only for the holder, with the row locked.

    It is the holder's own, and stored again, or was stored under a claim that a database forgot with its last commits.
    """
    behind = (Segment.session_id == session_id) & (Segment.first_seq > seq)
    tx.execute(delete(Segment).where(behind).execution_options(synchronize_session=False))


def is_stored(tx: Transaction, stretch: Stretch) -> bool:
    """Whether this very stretch is stored, byte for byte."""
    there = select(Segment.entries).where(
        Segment.session_id == stretch.session_id, Segment.first_seq == stretch.first_seq
    )
    return bool(tx.scalar(there) == stretch.blob)


def looked(tx: Transaction, session_ids: Collection[UUID]) -> dict[UUID, Look]:
    """Look at all followed sessions in one query. A session that is missing in the answer does not exist."""
    stored = (
        select(Segment.last_seq)
        .where(Segment.session_id == Session.id)
        .order_by(Segment.first_seq.desc())
        .limit(1)
        .correlate(Session)
        .scalar_subquery()
    )
    rows = tx.execute(
        select(Session.id, Session.status, Session.ended_at, Session.last_seq, func.coalesce(stored, 0)).where(
            Session.id.in_(session_ids)
        )
    )
    return {
        session_id: Look(status, last_stored, last_seq if ended_at else None)
        for session_id, status, ended_at, last_seq, last_stored in rows
    }
