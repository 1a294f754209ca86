"""Worker incarnations: arriving, renewing, draining, leaving, being declared lost.

All times are the database's: `clock_timestamp()` is the one clock that all workers and housekeeping share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text, update

from models import outbox
from models.events import EventKind, NewEvent, Origin
from models.lifecycle import LIVE, Status
from models.tables import Session, Worker

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Arrival:
    """A worker process that has just started. `node`: its Celery node name."""

    incarnation: UUID
    name: str
    host: str
    node: str
    pid: int
    slots: int
    version: str


@dataclass(frozen=True, slots=True)
class Holding:
    """A live session that PostgreSQL says an incarnation holds. `claim_age_seconds`: since it was claimed."""

    session_id: UUID
    fence: int
    claim_age_seconds: float


def arrive(tx: Transaction, arrival: Arrival, *, at: datetime) -> None:
    """Register an incarnation. Its predecessors of the same name on the same host are lost from here on."""
    predecessors = (
        update(Worker)
        .where(Worker.name == arrival.name, Worker.host == arrival.host, Worker.lost_at.is_(None))
        .values(lost_at=func.clock_timestamp())
        .returning(Worker.incarnation, Worker.name)
    )
    for incarnation, name in tx.execute(predecessors).all():
        _tell_lost(tx, incarnation, name, at)
    tx.execute(
        insert(Worker).values(
            incarnation=arrival.incarnation,
            name=arrival.name,
            host=arrival.host,
            node=arrival.node,
            pid=arrival.pid,
            slots=arrival.slots,
            version=arrival.version,
        )
    )


def _tell_lost(tx: Transaction, incarnation: UUID, name: str, at: datetime) -> None:
    payload = {"worker": name, "incarnation": str(incarnation)}
    outbox.add(tx, NewEvent(EventKind.WORKER_LOST, "", at, Origin("housekeeping"), None, payload))


_RENEW = text("""
    WITH me AS (
        UPDATE workers SET seen_at = clock_timestamp() WHERE incarnation = :incarnation AND lost_at IS NULL
        RETURNING incarnation
    )
    SELECT s.id, s.fence, COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - s.claimed_at), 0) AS claim_age
    FROM me LEFT JOIN sessions s ON s.worker = me.incarnation AND s.ended_at IS NULL
        AND s.status IN ('initializing', 'active', 'idle', 'waiting_input', 'terminating')
""")


def renew(tx: Transaction, incarnation: UUID) -> list[Holding] | None:
    """Say "alive" and read back what we hold, in one statement. None: we were declared lost and may write nothing."""
    rows = tx.execute(_RENEW, {"incarnation": incarnation}).all()
    if not rows:
        return None
    return [Holding(row.id, row.fence, float(row.claim_age)) for row in rows if row.id is not None]


def drain(tx: Transaction, incarnation: UUID) -> None:
    """From here on this incarnation claims nothing."""
    tx.execute(update(Worker).where(Worker.incarnation == incarnation).values(draining_at=func.clock_timestamp()))


def leave(tx: Transaction, incarnation: UUID) -> None:
    """Leave in good order. What it should still hold, housekeeping takes at once instead of waiting for the lease."""
    gone = update(Worker).where(Worker.incarnation == incarnation, Worker.lost_at.is_(None))
    tx.execute(gone.values(lost_at=func.clock_timestamp()))


def declare_lost(tx: Transaction, silent_seconds: float, *, at: datetime) -> list[str]:
    """Declare every incarnation lost that was silent that long; return their names."""
    silent = Worker.seen_at < func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, silent_seconds)
    lost = update(Worker).where(Worker.lost_at.is_(None), silent).values(lost_at=func.clock_timestamp())
    rows = tx.execute(lost.returning(Worker.incarnation, Worker.name)).all()
    for incarnation, name in rows:
        _tell_lost(tx, incarnation, name, at)
    return [name for _, name in rows]


def abandoned(tx: Transaction, *, limit: int = 100) -> list[UUID]:
    """Return live sessions whose holder is lost, oldest first."""
    wanted = (
        select(Session.id)
        .join(Worker, Worker.incarnation == Session.worker)
        .where(Session.status.in_(LIVE), Worker.lost_at.is_not(None))
        .order_by(Session.id)
        .limit(limit)
    )
    return list(tx.scalars(wanted))


def unheld_stopping(tx: Transaction, *, limit: int = 100) -> list[UUID]:
    """Return sessions that were asked to stop while nobody held them, and whose end was not written."""
    wanted = select(Session.id).where(Session.status == Status.TERMINATING, Session.worker.is_(None)).limit(limit)
    return list(tx.scalars(wanted))


def alive(tx: Transaction) -> list[Worker]:
    """Return the incarnations that are neither lost nor gone."""
    return list(tx.scalars(select(Worker).where(Worker.lost_at.is_(None)).order_by(Worker.started_at)))


def seen(tx: Transaction) -> list[tuple[Worker, float]]:
    """Return the incarnations that are neither lost nor gone, each with the seconds since it was last heard of."""
    silent = func.extract("epoch", func.clock_timestamp() - Worker.seen_at)
    rows = tx.execute(select(Worker, silent).where(Worker.lost_at.is_(None)).order_by(Worker.started_at)).all()
    return [(worker, float(seconds)) for worker, seconds in rows]


def alive_incarnations(tx: Transaction, incarnations: Collection[UUID] | None = None) -> set[UUID]:
    """Return which of these (None: of all) incarnations are neither lost nor gone."""
    wanted = select(Worker.incarnation).where(Worker.lost_at.is_(None))
    if incarnations is not None:
        wanted = wanted.where(Worker.incarnation.in_(incarnations))
    return set(tx.scalars(wanted))


def recently_gone(tx: Transaction) -> list[str]:
    """Return the Celery node names of incarnations that went in the last hour: what was sent to them later is gone too."""
    hour_ago = func.clock_timestamp() - text("interval '1 hour'")
    return list(tx.scalars(select(Worker.node).where(Worker.lost_at > hour_ago)))


def dead_here(tx: Transaction, host: str) -> set[UUID]:
    """Return the incarnations of a host that went in the last week: what they left behind may be killed."""
    week_ago = func.clock_timestamp() - text("interval '7 days'")
    return set(tx.scalars(select(Worker.incarnation).where(Worker.host == host, Worker.lost_at > week_ago)))


_NOTE_RUN = text("""
    INSERT INTO housekeeping AS h (name, ran_at, spared_until, runs)
    VALUES (:name, clock_timestamp(), clock_timestamp() + make_interval(secs => :spare), 1)
    ON CONFLICT (name) DO UPDATE SET ran_at = clock_timestamp(), runs = h.runs + 1,
        spared_until = CASE WHEN h.ran_at < clock_timestamp() - make_interval(secs => :gap)
            THEN clock_timestamp() + make_interval(secs => :spare) ELSE h.spared_until END
    RETURNING COALESCE(spared_until > clock_timestamp(), false) AS spared
""")


def silent_housekeeping(tx: Transaction) -> float | None:
    """Return the seconds since housekeeping last ran; None: it never did."""
    age = text("SELECT EXTRACT(EPOCH FROM clock_timestamp() - ran_at) FROM housekeeping WHERE name = 'rounds'")
    seconds = tx.scalar(age)
    return None if seconds is None else float(seconds)


def note_run(tx: Transaction, name: str, *, gap_seconds: float, spare_seconds: float) -> bool:
    """Note a run of housekeeping; return whether everybody is spared for now.

    After a gap in the runs the database, or housekeeping itself, was away: renewals may have been impossible, so
    nobody is declared lost for `spare_seconds`.
    """
    values = {"name": name, "gap": gap_seconds, "spare": spare_seconds}
    return bool(tx.execute(_NOTE_RUN, values).scalar_one())
