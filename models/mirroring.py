"""What the mirror writes in PostgreSQL: which events are published, how it is, how far each session's output has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from core.ids import first_of
from models.tables import Event, MirrorState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row

    from models.database import Transaction

LOCK: Final = 0x6A656C70
MOST_COUNTED: Final = 100_000
LEADER_SILENT_SECONDS: Final = 6
"""A leader that is stopped in the midst of it is one no more after this: the server ends its connection."""


def lead(tx: Transaction) -> bool:
    """Take the lead, until this transaction ends; False: another mirror has it."""
    tx.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{LEADER_SILENT_SECONDS}s'"))
    return bool(tx.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": LOCK}))


def keep(tx: Transaction) -> None:
    """Go on leading."""
    tx.execute(text("SELECT 1"))


def mark(tx: Transaction, event_ids: Collection[UUID], *, at: datetime) -> None:
    """Note that events are with NATS."""
    tx.execute(update(Event).where(Event.id.in_(event_ids)).values(published_at=at).execution_options(**NO_SYNC))


def bury(tx: Transaction, event_id: UUID, why: str, *, at: datetime) -> None:
    """Note that an event went to the dead letters."""
    tx.execute(update(Event).where(Event.id == event_id).values(published_at=at, dead=why).execution_options(**NO_SYNC))


NO_SYNC: Final[Mapping[str, Any]] = {"synchronize_session": False}


def republish(tx: Transaction, event_ids: Collection[UUID]) -> int:
    """Have the published ones of these events published again; return how many."""
    published = (Event.id.in_(event_ids), Event.published_at.is_not(None))
    again = update(Event).where(*published).values(published_at=None, dead=None).execution_options(**NO_SYNC)
    return int(tx.execute(again).rowcount)  # type: ignore[attr-defined]


# Lag.


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not published yet. `rows`: counted up to MOST_COUNTED."""

    rows: int
    seconds: float


_LAG = text("""
    SELECT count(*), COALESCE(GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - min(at))), 0)
    FROM (SELECT at FROM events WHERE published_at IS NULL ORDER BY transaction, position LIMIT :most) AS waiting
""")


def lag(tx: Transaction, most: int = MOST_COUNTED) -> Lag:
    """Return how much waits, and since when its oldest does."""
    rows, seconds = tx.execute(_LAG, {"most": most}).one()
    return Lag(int(rows), float(seconds))


# How it is.


def say(tx: Transaction, trouble: str | None, notes: Sequence[str], rate: float) -> None:
    """Note how the mirror is, for whoever asks for the service's health. `rate`: events published a second."""
    said = {"at": text("clock_timestamp()"), "trouble": trouble, "notes": [*notes], "published_per_second": rate}
    statement = insert(MirrorState).values(said)
    tx.execute(statement.on_conflict_do_update(index_elements=[MirrorState.one], set_=said))


@dataclass(frozen=True, slots=True)
class Said:
    """What the mirror said last, and how many seconds ago."""

    seconds: float
    trouble: str | None
    notes: Sequence[str]
    published_per_second: float


def said(tx: Transaction) -> Said | None:
    """Return what the mirror said last; None: there never was one."""
    age = text("EXTRACT(EPOCH FROM clock_timestamp() - at)")
    row = tx.execute(
        select(age, MirrorState.trouble, MirrorState.notes, MirrorState.published_per_second)
    ).one_or_none()
    return None if row is None else Said(float(row[0]), *row[1:])


# Retention.


def expire(tx: Transaction, older_than: datetime, *, limit: int) -> tuple[int, int]:
    """Remove events made before that time, the oldest first; return how many, and how many were never published."""
    oldest = select(Event.id).where(Event.id < first_of(older_than)).order_by(Event.id).limit(limit)
    gone = delete(Event).where(Event.id.in_(oldest)).returning(Event.published_at).execution_options(**NO_SYNC)
    published = tx.scalars(gone).all()
    return len(published), sum(at is None for at in published)


# Output.

_SEED = text("""
    INSERT INTO mirrored_output (session_id)
    SELECT id FROM sessions WHERE status IN ('initializing', 'active', 'idle', 'waiting_input', 'terminating')
    ON CONFLICT DO NOTHING
""")
_BEGIN = text("""
    INSERT INTO mirrored_output (session_id) SELECT id FROM sessions WHERE id = ANY(CAST(:ids AS uuid[]))
    ON CONFLICT DO NOTHING
""")
_NEXT = text("""
    SELECT m.session_id, m.last_seq, s.first_seq, s.last_seq AS segment_end, s.entries FROM mirrored_output m
    CROSS JOIN LATERAL (
        SELECT first_seq, last_seq, entries FROM segments
        WHERE segments.session_id = m.session_id AND first_seq > m.last_seq ORDER BY first_seq LIMIT 1
    ) s WHERE m.session_id > :behind ORDER BY m.session_id LIMIT :limit
""")
_MOVE = text("""
    UPDATE mirrored_output SET last_seq = told.seq
    FROM unnest(CAST(:ids AS uuid[]), CAST(:seqs AS bigint[])) AS told(id, seq) WHERE session_id = told.id
""")
_FORGET = text("""
    DELETE FROM mirrored_output m USING sessions s
    WHERE s.id = m.session_id AND s.ended_at IS NOT NULL AND m.last_seq >= s.last_seq
""")


def output_begins(tx: Transaction) -> None:
    """Mirror the output of all that live, from its beginning, unless it is under way."""
    tx.execute(_SEED)


def output_of(tx: Transaction, session_ids: Collection[UUID]) -> None:
    """Mirror the output of these sessions."""
    tx.execute(_BEGIN, {"ids": [*session_ids]})


def output_ends(tx: Transaction) -> None:
    """Mirror no output any more, and forget how far it was."""
    tx.execute(text("DELETE FROM mirrored_output"))


def next_output(tx: Transaction, behind: UUID, *, limit: int) -> Sequence[Row[Any]]:
    """Return each session's next segment, of so many sessions that have one, behind a session's id: all have their turn."""
    return tx.execute(_NEXT, {"behind": behind, "limit": limit}).all()


def output_moved(tx: Transaction, moved: Mapping[UUID, int]) -> None:
    """Note up to which entry these sessions' output is with NATS; forget those that have ended."""
    tx.execute(_MOVE, {"ids": [*moved], "seqs": [*moved.values()]})
    tx.execute(_FORGET)
