"""Reading events, for everybody who must miss none: the mirror, the API, webhooks.

Rows are written by transactions that end in another order than they began: whoever asks for what is behind the last number
it has seen misses rows that are committed late. So a row also has the number of a transaction, its own or a later one that
was over when the row was written, and readers take rows only of numbers below every transaction that still runs: in their
order, (transaction, position), nothing can come before a row that was read. One session's events keep the order in which
they happened: each transaction waits for the session's row, and takes its number afterwards.

A transaction that stays open holds up what was written after it, in every reader. Nothing of Jelmore's does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Row, literal_column, select, text, tuple_

from models.events import Envelope, Position
from models.tables import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Select, Table

    from models.database import Transaction

EVENTS: Final = cast("Table", Event.__table__)
"""The table itself: rows that are only shown need not become objects."""
ROW: Final = (
    *(EVENTS.c.id, EVENTS.c.transaction, EVENTS.c.position, EVENTS.c.event_type, EVENTS.c.owner, EVENTS.c.session_id),
    *(EVENTS.c.payload, EVENTS.c.actor, EVENTS.c.request_id, EVENTS.c.at),
)
ORDER: Final = (EVENTS.c.transaction, EVENTS.c.position)
HORIZON: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint + (SELECT shift FROM event_clock)"
"""Every transaction below it is over. The shift: see `mend`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events. `owner`: None for everybody's; `kinds`, `session_id`, `at`: None for all. `since` is of the event's time."""

    owner: str | None = None
    kinds: Collection[str] | None = None
    session_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING: Final = Wanted()


def read(
    tx: Transaction, after: Position, wanted: Wanted = EVERYTHING, *, limit: int, unpublished: bool = False
) -> Sequence[Row[Any]]:
    """Return the events that follow a position, in their order, of those that nothing can come before any more."""
    query = _matching(select(*ROW), wanted).where(EVENTS.c.transaction < literal_column(HORIZON))
    if unpublished:
        query = query.where(EVENTS.c.published_at.is_(None))
    query = query.where(tuple_(*ORDER) > tuple_(after.transaction, after.number))
    return tx.execute(query.order_by(*ORDER).limit(limit)).all()


def _matching(query: Select[Any], wanted: Wanted) -> Select[Any]:
    if wanted.owner is not None:
        query = query.where(EVENTS.c.owner == wanted.owner)
    if wanted.kinds is not None:
        query = query.where(EVENTS.c.event_type.in_(wanted.kinds))
    if wanted.session_id is not None:
        query = query.where(EVENTS.c.session_id == wanted.session_id)
    if wanted.since is not None:
        query = query.where(EVENTS.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(EVENTS.c.at < wanted.until)
    return query


def end(tx: Transaction) -> Position:
    """Return a position behind everything that can be read now, and before everything that cannot be yet."""
    return Position(int(tx.scalar(text(f"SELECT {HORIZON}")) or 0) - 1, 2**62)


def place_of(tx: Transaction, event_id: UUID) -> Position | None:
    """Return where an event stands."""
    row = tx.execute(select(*ORDER).where(EVENTS.c.id == event_id)).one_or_none()
    return None if row is None else Position(*row)


def position(row: Row[Any]) -> Position:
    """Return where a row that was read stands."""
    return Position(row.transaction, row.position)


def envelope(row: Row[Any]) -> Envelope:
    """Return what a row looks like to everybody."""
    at = row.at
    return {
        "event_type": row.event_type,
        "session_id": None if row.session_id is None else str(row.session_id),
        "event_id": str(row.id),
        "position": str(Position(row.transaction, row.position)),
        "payload": row.payload,
        "timestamp": stamp(at),
        "request_id": row.request_id,
        "actor": row.actor,
    }


def stamp(at: datetime) -> str:
    """Return a time as events have it: ISO 8601, UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# A database that was restored.

_MEND = text("""
    WITH last AS (SELECT max(transaction) AS transaction FROM events),
        now AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1 + shift AS transaction FROM event_clock)
    UPDATE event_clock SET shift = shift + last.transaction - now.transaction
    FROM last, now WHERE last.transaction > now.transaction
    RETURNING shift
""")


def mend(tx: Transaction) -> bool:
    """Let the order go on where it was, in a database that was restored: its server counts transactions from another number.

    Without this new events would stand before all old ones, and old ones behind the end. Return whether there was need.
    """
    return tx.execute(_MEND).first() is not None
