"""Removing what ended sessions left once its time is over: first their output, later the sessions themselves.

Only ended sessions are looked at, by PostgreSQL's own clock: a host whose clock is wrong removes nothing early. Of a session
whose output went, the last stretch stays, which says how it ended: its readers get a `gap` and then that.

Nothing here removes more than a bounded number of rows in one statement; the caller comes again. Output goes from its
beginning on, so that what is left of a log that is half removed is always its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause

    from models.database import Transaction

SESSIONS_AT_ONCE: Final = 200
ROWS_AT_ONCE: Final = 200
"""A stretch may have a MiB: so many are gone in some tenths of a second."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk over the ended sessions has come, the oldest first."""

    ended_at: datetime
    session_id: UUID


BEGIN: Final = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))

_OVER = text("""
    SELECT id, ended_at FROM sessions
    WHERE ended_at < clock_timestamp() - make_interval(secs => :seconds) AND (ended_at, id) > (:at, CAST(:id AS uuid))
    ORDER BY ended_at, id LIMIT :limit
""")
_STRETCHES = text("""
    DELETE FROM segments WHERE (session_id, first_seq) IN (
        SELECT segments.session_id, segments.first_seq FROM segments JOIN sessions ON sessions.id = segments.session_id
        WHERE sessions.id = ANY(CAST(:ids AS uuid[])) AND sessions.ended_at IS NOT NULL AND segments.last_seq < sessions.last_seq
        ORDER BY segments.session_id, segments.first_seq LIMIT :limit
    )
""")
_INPUTS = text("""
    DELETE FROM inputs WHERE (session_id, input_seq) IN (
        SELECT session_id, input_seq FROM inputs WHERE session_id = ANY(CAST(:ids AS uuid[])) LIMIT :limit
    )
""")
_SESSIONS = text("""
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE id = ANY(CAST(:ids AS uuid[])) AND ended_at IS NOT NULL LIMIT :limit
    )
""")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: rows removed, and where the next one goes on; None: nothing is left that is over."""

    removed: int
    place: Place | None


def expire_output(tx: Transaction, seconds: float, after: Place) -> Step:
    """Remove some stretches of sessions that ended longer ago than that, behind a place in the order of their ends."""
    over = _over(tx, seconds, after)
    if not over:
        return Step(0, None)
    removed = _remove(tx, _STRETCHES, over)
    return Step(removed, after if removed == ROWS_AT_ONCE else over[-1])


def expire_sessions(tx: Transaction, seconds: float) -> Step:
    """Remove some of what belongs to sessions that ended longer ago than that, and those of which all else is gone.

    The end of a log goes with its session: who reads meanwhile is told of it to the last.
    """
    over = _over(tx, seconds, BEGIN)
    if not over:
        return Step(0, None)
    for statement in (_STRETCHES, _INPUTS):
        if _remove(tx, statement, over) == ROWS_AT_ONCE:
            return Step(0, BEGIN)
    return Step(_remove(tx, _SESSIONS, over), BEGIN)


def _over(tx: Transaction, seconds: float, after: Place) -> list[Place]:
    values = {"seconds": seconds, "at": after.ended_at, "id": str(after.session_id), "limit": SESSIONS_AT_ONCE}
    return [Place(row.ended_at, row.id) for row in tx.execute(_OVER, values)]


def _remove(tx: Transaction, statement: TextClause, over: Sequence[Place]) -> int:
    values = {"ids": [str(place.session_id) for place in over], "limit": ROWS_AT_ONCE}
    return int(tx.execute(statement, values).rowcount)  # type: ignore[attr-defined]
