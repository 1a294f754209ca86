"""Sessions that wait for a worker: which start tasks to send again, how long the wait is, and each one's place in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, text, update

from models.lifecycle import Status
from models.tables import Session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unclaimed session whose last send is long ago. `overtaken`: one that was sent after it has been claimed."""

    session_id: UUID
    priority: str
    sends: int
    overtaken: bool
    request_id: str | None


# After 1, 2, 4 … times the first wait, at most 64: a session that waits for a slot is not sent a hundred times.
_UNCLAIMED = text("""
    SELECT s.id, s.priority, s.sends, s.request_id, EXISTS (
        SELECT FROM sessions later
        WHERE later.claimed_at IS NOT NULL AND later.claimed_at > s.sent_at AND later.sent_at > s.sent_at
          AND later.priority = s.priority
    ) AS overtaken
    FROM sessions s
    WHERE s.status = 'initializing' AND s.worker IS NULL
      AND s.sent_at < clock_timestamp() - make_interval(secs => :first_wait * power(2, LEAST(s.sends - 1, 6)))
    ORDER BY s.id LIMIT :limit
""")


def unclaimed(tx: Transaction, first_wait_seconds: float, *, limit: int = 100) -> list[Waiting]:
    """Return sessions nobody has claimed though their start was sent long enough ago, oldest first."""
    rows = tx.execute(_UNCLAIMED, {"first_wait": first_wait_seconds, "limit": limit})
    return [Waiting(row.id, row.priority, row.sends, row.overtaken, row.request_id) for row in rows]


def note_sent(tx: Transaction, session_id: UUID) -> None:
    """Note that a start was sent again."""
    sent = update(Session).where(Session.id == session_id)
    tx.execute(sent.values(sent_at=func.clock_timestamp(), sends=Session.sends + 1))


PLACES: Final = """
    SELECT id, place FROM (
        SELECT id, row_number() OVER (
            ORDER BY CASE priority WHEN 'high' THEN 0 WHEN 'low' THEN 2 ELSE 1 END, created_at, id
        ) AS place
        FROM sessions WHERE status = 'initializing' AND worker IS NULL
    ) AS waiting
    WHERE id = ANY(CAST({ids} AS uuid[]))
"""
_PLACES = text(PLACES.format(ids=":ids"))


def is_waiting(session: Session) -> bool:
    """Whether a session waits for a worker to claim it."""
    return session.status == Status.INITIALIZING and session.worker is None


def places(tx: Transaction, sessions: Iterable[Session]) -> dict[UUID, int]:
    """Return the place, from 1, of those of the sessions that wait: high priority first, then the order of creation.

    Not by `sent_at`: a start that is sent again does not lose its place, neither here nor in the broker's queue.
    """
    waiting = [session.id for session in sessions if is_waiting(session)]
    if not waiting:
        return {}
    return {row.id: row.place for row in tx.execute(_PLACES, {"ids": waiting})}


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sessions that wait for a slot. `oldest_at`: when the first of them was created, or waited anew."""

    length: int
    oldest_at: datetime | None

    def seconds(self, at: datetime) -> float | None:
        """Return how long the first of them has waited; None if none does."""
        return None if self.oldest_at is None else max(0.0, (at - self.oldest_at).total_seconds())


def look(tx: Transaction, owner: str | None = None) -> Backlog:
    """Return how many sessions wait, of one owner or of all, and since when."""
    waiting = (Session.status == Status.INITIALIZING) & Session.worker.is_(None)
    if owner is not None:
        waiting &= Session.owner == owner
    length, oldest_at = tx.execute(select(func.count(), func.min(Session.created_at)).where(waiting)).one()
    return Backlog(length, oldest_at)
