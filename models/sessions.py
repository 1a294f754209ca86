"""Sessions as rows: finding, moving along the lifecycle, asking to stop.

Opening them is `models.openings`, listing them `models.listing`, claiming and holding one `models.claims`, writing its end
`models.endings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from core.errors import SessionNotFound
from models import lifecycle, outbox
from models.events import EventKind, NewEvent, Origin
from models.lifecycle import LIVE, Reason, Status, Trigger
from models.tables import Session

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction


def visible(tx: Transaction, session_id: UUID, owner: str | None) -> Session:
    """Return a session the owner may see (None sees every one's). Another's is as unknown as one that never was."""
    wanted = select(Session).where(Session.id == session_id)
    if owner is not None:
        wanted = wanted.where(Session.owner == owner)
    session = tx.scalar(wanted)
    if session is None:
        raise SessionNotFound
    return session


def locked(tx: Transaction, session_id: UUID) -> Session:
    """Return a session with its row locked until the end of the transaction. Raises SessionNotFound.

    FOR NO KEY UPDATE: the foreign keys of segments and inputs must not wait for it.
    """
    wanted = select(Session).where(Session.id == session_id).with_for_update(key_share=True)
    session = tx.scalar(wanted.execution_options(populate_existing=True))
    if session is None:
        raise SessionNotFound
    return session


def advance(session: Session, trigger: Trigger, *, at: datetime) -> bool:
    """Move a locked session along its lifecycle; return whether its status changed. The event is the caller's."""
    status = lifecycle.after(Status(session.status), trigger)
    if status == session.status:
        return False
    session.status = status
    session.updated_at = at
    return True


def status_changed(tx: Transaction, session: Session, origin: Origin, *, at: datetime) -> None:
    """Tell the outbox of a new status."""
    payload = {"status": session.status, "reason": session.stop_reason}
    outbox.add(tx, NewEvent(EventKind.SESSION_STATUS_CHANGED, session.owner, at, origin, session.id, payload))


def ask_to_stop(
    tx: Transaction, session: Session, reason: Reason, detail: str | None, origin: Origin, *, at: datetime
) -> bool:
    """Mark a locked live session `terminating`; return whether it was not yet. The first reason stands."""
    if not advance(session, Trigger.STOP_REQUESTED, at=at):
        return False
    session.stop_reason = reason
    session.reason_detail = detail
    status_changed(tx, session, origin, at=at)
    return True


def count_by_status(tx: Transaction, owner: str | None = None) -> dict[tuple[str, str], int]:
    """Return how many live sessions there are of each (program, status), of one owner or of all."""
    counted = (
        select(Session.program, Session.status, func.count())
        .where(Session.status.in_(LIVE), *([] if owner is None else [Session.owner == owner]))
        .group_by(Session.program, Session.status)
    )
    return {(program, status): count for program, status, count in tx.execute(counted)}


def ping(tx: Transaction) -> None:
    """Ask the database whether it answers."""
    tx.execute(text("SELECT 1"))


def inherit(tx: Transaction, session: Session) -> Session | None:
    """Return the session whose conversation another one goes on with, or branches; None if there is none, or none any more.

    What that one has cost is part of what this one costs: its program counts on.
    """
    origin_id = session.resumed_from or session.fork_of
    origin = None if origin_id is None else tx.get(Session, origin_id)
    if origin is not None and session.program_state is None:
        session.program_state = {"cost_usd": (origin.program_state or {}).get("cost_usd", 0.0)}
    return origin
