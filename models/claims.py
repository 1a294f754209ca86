"""Holding a session: the claim, what the holder reports while it runs, and the fence that ends its right to.

A *claim* makes any number of deliveries of one start task one run. The *fence* grows with each claim and each take-over;
whoever writes for a session names the fence it was given, and a row with another fence is not its own any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, text

from core.errors import Fenced
from core.programs import CONVERSATIONS
from models import inputs, outbox, requests, sessions
from models.events import EventKind, NewEvent, Origin
from models.lifecycle import Reason, Status, Trigger
from models.tables import Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Started:
    """What is known once the process runs."""

    pid: int
    directory: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of a live session, saved with its segments at least once a second while they change."""

    session_id: UUID
    fence: int
    last_seq: int
    output_bytes: int
    last_activity_at: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """What a running session is doing: active, idle or waiting_input."""

    session_id: UUID
    fence: int
    status: Status


# FOR SHARE on the worker's row: a claim and the declaration that the worker is lost cannot both succeed.
_CLAIM = text("""
    WITH me AS (
        SELECT incarnation, name FROM workers
        WHERE incarnation = :incarnation AND lost_at IS NULL AND draining_at IS NULL FOR SHARE
    )
    UPDATE sessions SET worker = me.incarnation, worker_name = me.name, claim = :claim, fence = sessions.fence + 1,
        claimed_at = clock_timestamp(), updated_at = clock_timestamp()
    FROM me
    WHERE sessions.id = :id AND sessions.status = 'initializing'
      AND (sessions.worker IS NULL OR (sessions.worker = me.incarnation AND sessions.claim = :claim))
    RETURNING sessions.id
""")


def claim(tx: Transaction, session_id: UUID, incarnation: UUID, delivery: str) -> Session | None:
    """Take the right to run a session; None if it is somebody else's, over, or this worker may not.

    Repeated under the same delivery (its reply was lost) it finds its own claim.
    """
    won = tx.execute(_CLAIM, {"id": session_id, "incarnation": incarnation, "claim": delivery}).first()
    return tx.get(Session, session_id, populate_existing=True) if won else None


def held(tx: Transaction, session_id: UUID, fence: int) -> Session:
    """Return a session, its row locked, if the fence is still ours. Raises Fenced."""
    session = sessions.locked(tx, session_id)
    if session.fence != fence:
        raise Fenced
    return session


def started(tx: Transaction, session_id: UUID, fence: int, facts: Started, origin: Origin, *, at: datetime) -> Session:
    """Note that the process runs. The status may be `terminating` already: a stop overtook the start."""
    session = held(tx, session_id, fence)
    changed = sessions.advance(session, Trigger.STARTED, at=at)
    session.pid = facts.pid
    session.current_directory = facts.directory
    session.started_at = session.last_activity_at = session.updated_at = at
    session.expires_at = at + timedelta(seconds=session.timeout_seconds)
    payload = {"program": session.program, "worker": session.worker_name, "attempt": session.attempt}
    outbox.add(tx, NewEvent(EventKind.SESSION_STARTED, session.owner, at, origin, session_id, payload))
    if changed:
        sessions.status_changed(tx, session, origin, at=at)
    return session


# Everybody who locks several sessions does it in this order. A worker's segments and its statuses took them as they came,
# and deadlocked under load; a client's DELETE that waited between the two was at times the one to be given up.
_LOCK = text("SELECT 1 FROM sessions WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE")

_PROGRESS = text("""
    UPDATE sessions SET last_seq = told.last_seq, output_bytes = told.output_bytes,
        last_activity_at = GREATEST(sessions.last_activity_at, told.at), updated_at = GREATEST(sessions.updated_at, told.at)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:seqs AS bigint[]), CAST(:sizes AS bigint[]),
        CAST(:ats AS timestamptz[])
    ) AS told(session_id, fence, last_seq, output_bytes, at)
    WHERE sessions.id = told.session_id AND sessions.fence = told.fence AND sessions.ended_at IS NULL
""")


def save_progress(tx: Transaction, news: Sequence[Progress]) -> None:
    """Save the counters of all sessions with news, in one statement; those that are not ours any more are left alone."""
    if not news:
        return
    tx.execute(_LOCK, {"ids": [progress.session_id for progress in news]})
    tx.execute(
        _PROGRESS,
        {
            "ids": [progress.session_id for progress in news],
            "fences": [progress.fence for progress in news],
            "seqs": [progress.last_seq for progress in news],
            "sizes": [progress.output_bytes for progress in news],
            "ats": [progress.last_activity_at for progress in news],
        },
    )


_SHOW = text("""
    UPDATE sessions SET status = told.status, updated_at = GREATEST(sessions.updated_at, :at)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS bigint[]), CAST(:statuses AS text[]))
        AS told(session_id, fence, status)
    WHERE sessions.id = told.session_id AND sessions.fence = told.fence AND sessions.status <> told.status
      AND sessions.status IN ('active', 'idle', 'waiting_input')
    RETURNING sessions.id, sessions.owner, sessions.status
""")


def show(tx: Transaction, told: Sequence[Shown], origin: Origin, *, at: datetime) -> None:
    """Write the statuses of running sessions, in one statement, and tell the outbox of each that changed.

    One that is being stopped, has ended or is not ours any more is left alone.
    """
    values = {
        "ids": [each.session_id for each in told],
        "fences": [each.fence for each in told],
        "statuses": [str(each.status) for each in told],
        "at": at,
    }
    tx.execute(_LOCK, {"ids": values["ids"]})
    for row in tx.execute(_SHOW, values):
        payload = {"status": row.status, "reason": None}
        outbox.add(tx, NewEvent(EventKind.SESSION_STATUS_CHANGED, row.owner, at, origin, row.id, payload))


def standing(tx: Transaction, session_id: UUID) -> tuple[str | None, int]:
    """Return (claim, fence) of a session, its row locked: who may write for it now."""
    session = sessions.locked(tx, session_id)
    return session.claim, session.fence


def reopen(tx: Transaction, session: Session, reason: Reason, origin: Origin, *, at: datetime) -> None:
    """Give a locked live session that its holder lost back to be claimed: its program can go on elsewhere."""
    sessions.advance(session, Trigger.RESTARTED, at=at)
    session.worker = session.worker_name = session.claim = session.claimed_at = None
    session.pid = session.started_at = session.expires_at = None
    session.attempt += 1
    session.sends = 1
    session.sent_at = func.clock_timestamp()
    session.updated_at = at
    requests.withdraw_all(tx, session.id, at=at)
    if session.program in CONVERSATIONS:
        inputs.offer_again(tx, session.id)
    if reason is Reason.WORKER_SHUTDOWN:
        state = session.program_state or {}
        session.program_state = {**state, "hand_overs": state.get("hand_overs", 0) + 1}
    inputs.lose(tx, session.id)
    payload = {"attempt": session.attempt, "reason": str(reason)}
    outbox.add(tx, NewEvent(EventKind.SESSION_RESTARTED, session.owner, at, origin, session.id, payload))


def take_fence(tx: Transaction, session_id: UUID) -> Session:
    """Take a session from its holder: from the commit on nothing the holder writes counts. Its row is locked."""
    session = sessions.locked(tx, session_id)
    session.fence += 1
    return session
