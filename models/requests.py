"""What programs want decided: asked by the holder, answered by clients, withdrawn with the process that asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from core.errors import RequestNotFound, RequestSettled
from models import inputs, outbox
from models.events import EventKind, NewEvent
from models.inputs import Kind, NewInput
from models.tables import Request

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction
    from models.events import Origin
    from models.inputs import Accepted
    from models.tables import Session


class RequestState(StrEnum):
    """What became of a request."""

    OPEN = "open"
    ALLOWED = "allowed"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """What is to be decided. `kind`: permission, question or plan."""

    id: UUID
    kind: str
    tool: str
    input: Mapping[str, Any] = field(repr=False)
    description: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer. `input`: what the tool is given instead; `remember`: whether it holds for the rest of the session."""

    allow: bool
    input: Mapping[str, Any] | None = field(default=None, repr=False)
    message: str | None = None
    remember: str = "once"

    @property
    def state(self) -> RequestState:
        """Return what it makes of a request."""
        return RequestState.ALLOWED if self.allow else RequestState.DENIED


def ask(tx: Transaction, session: Session, new: NewRequest, origin: Origin, *, at: datetime) -> None:
    """Write a request of a locked session that is held, and tell of it. Written again, the first time's reply was lost."""
    if tx.get(Request, new.id) is not None:
        return
    row = Request(
        id=new.id,
        session_id=session.id,
        kind=new.kind,
        tool=new.tool,
        input=dict(new.input),
        description=new.description,
        created_at=at,
    )
    tx.add(row)
    # Thin: what the tool is to be given may hold secrets, and goes to readers of the session alone.
    payload = {"request_id": str(new.id), "kind": new.kind, "tool": new.tool, "description": new.description}
    outbox.add(tx, NewEvent(EventKind.SESSION_REQUEST, session.owner, at, origin, session.id, payload))


def decide(
    tx: Transaction, session: Session, request_id: UUID, decision: Decision, origin: Origin, *, at: datetime
) -> tuple[Accepted, Request]:
    """Write a client's answer; return the row of the mailbox that brings it to the program, and the request.

    `session`: from `inputs.open_mailbox`, in the same transaction. Raises RequestNotFound, RequestSettled.
    """
    wanted = select(Request).where(Request.id == request_id, Request.session_id == session.id).with_for_update()
    row = tx.scalar(wanted)
    if row is None:
        raise RequestNotFound
    if row.state != RequestState.OPEN:
        raise RequestSettled(row.state)
    row.state = decision.state
    row.message = decision.message
    row.changed_input = None if decision.input is None else dict(decision.input)
    row.remember = decision.remember
    row.decided_by = origin.actor
    row.decided_at = at
    detail = {
        "request_id": str(request_id),
        "allow": decision.allow,
        "input": row.changed_input,
        "message": decision.message,
        "remember": decision.remember,
    }
    return inputs.append(tx, session, NewInput(Kind.ANSWER, detail=detail), origin, at=at), row


def settle(
    tx: Transaction,
    session_id: UUID,
    states: Mapping[UUID, RequestState],
    by: str,
    *,
    at: datetime,
    message: str | None = None,
) -> None:
    """Note what became of open requests without a client: withdrawn, or denied for want of an answer."""
    for request_id, state in states.items():
        tx.execute(
            update(Request)
            .where(Request.id == request_id, Request.session_id == session_id, Request.state == RequestState.OPEN)
            .values(state=state, decided_by=by, decided_at=at, message=message)
        )


def withdraw_all(tx: Transaction, session_id: UUID, *, at: datetime) -> None:
    """Nobody waits for answers any more: the process that asked is gone."""
    still = update(Request).where(Request.session_id == session_id, Request.state == RequestState.OPEN)
    tx.execute(still.values(state=RequestState.WITHDRAWN, decided_at=at))


def listing(
    tx: Transaction, session_id: UUID, *, states: Collection[RequestState] = (), limit: int = 1000
) -> Sequence[Request]:
    """Return a session's requests, the oldest first."""
    wanted = select(Request).where(Request.session_id == session_id)
    if states:
        wanted = wanted.where(Request.state.in_(states))
    return tx.scalars(wanted.order_by(Request.id).limit(limit)).all()
