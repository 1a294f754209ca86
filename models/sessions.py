"""Sessions as rows: opening, finding, moving along the lifecycle, asking to stop.

Listing them is `models.listing`; claiming and holding one is `models.claims`; writing its end is `models.endings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from core.errors import SessionNotFound, TooManySessions
from core.ids import uuid7
from models import lifecycle, outbox
from models.events import EventKind, NewEvent, Origin
from models.lifecycle import LIVE, Reason, Status, Trigger
from models.tables import Session

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction

CAP_LOCK = 0x6A656C6D  # advisory lock: creations take turns, so that a cap is exact under concurrency


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client asked for, checked. `owner` and `created_by` come from the key, never from the body."""

    owner: str
    created_by: str
    program: str
    query: str
    timeout_seconds: int
    user_id: str | None = None
    requested_directory: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    terminal: dict[str, Any] | None = None
    priority: str = "normal"
    idle_timeout_seconds: int | None = None
    """Without output and input; None: as long as it likes."""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """How many sessions may be live at once: in all, of one owner, of one key. None: no cap."""

    total: int | None
    per_owner: int | None = None
    per_key: int | None = None


def open_session(tx: Transaction, new: NewSession, caps: Caps, *, at: datetime) -> Session:
    """Write a new session and its event. Raises TooManySessions where a cap is reached."""
    _check_caps(tx, new, caps)
    session = Session(
        id=uuid7(),
        owner=new.owner,
        created_by=new.created_by,
        user_id=new.user_id,
        program=new.program,
        query=new.query,
        requested_directory=new.requested_directory,
        current_directory=new.requested_directory,
        metadata_=new.metadata,
        env=new.env,
        terminal=new.terminal,
        priority=new.priority,
        timeout_seconds=new.timeout_seconds,
        idle_timeout_seconds=new.idle_timeout_seconds,
        request_id=new.request_id,
        status=Status.INITIALIZING,
        fence=0,
        attempt=1,
        sends=1,
        sent_at=func.clock_timestamp(),  # compared with the database's clock, whatever the web process's says
        last_input_seq=0,
        last_seq=0,
        output_bytes=0,
        created_at=at,
        updated_at=at,
        last_activity_at=at,
    )
    tx.add(session)
    tx.flush()
    payload = {
        "query": new.query,
        "user_id": new.user_id,
        "created_by": new.created_by,
        "program": new.program,
    }
    origin = Origin(new.created_by, new.request_id)
    outbox.add(tx, NewEvent(EventKind.SESSION_CREATED, new.owner, at, origin, session.id, payload))
    return session


def _check_caps(tx: Transaction, new: NewSession, caps: Caps) -> None:
    if caps.total is None and caps.per_owner is None and caps.per_key is None:
        return
    tx.execute(select(func.pg_advisory_xact_lock(CAP_LOCK)))
    live = select(
        func.count().label("total"),
        func.count().filter(Session.owner == new.owner).label("per_owner"),
        func.count().filter(Session.created_by == new.created_by).label("per_key"),
    ).where(Session.status.in_(LIVE))
    counted = tx.execute(live).one()
    for name in ("total", "per_owner", "per_key"):
        cap = getattr(caps, name)
        if cap is not None and getattr(counted, name) >= cap:
            raise TooManySessions


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
