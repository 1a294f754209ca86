"""Asking something of a live session besides input: a row in its mailbox, a bell, and the answer once it is carried out.

One procedure for signal, resize, eof, interrupt and extend; what differs between them stands in `app.api.controls`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app import request_id
from app.auth import current_caller
from app.origin import note, origin
from app.web import current_web
from core.errors import JelmoreError, NoTerminal, RequestSettled, SessionEnded
from models import inputs
from models.inputs import Kind, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from models.inputs import Accepted, NewInput
    from models.tables import Session

LOOKS: Final = (0.02, 0.03, 0.05, 0.1)
"""Seconds between looks at the row; the last one repeats."""
WAIT_SECONDS: Final = 5.0
DONE: Final = {
    Kind.SIGNAL: "Signal sent",
    Kind.RESIZE: "Terminal resized",
    Kind.EOF: "End of input sent",
    Kind.INTERRUPT: "Interrupt sent",
    Kind.EXTEND: "Session extended",
    Kind.ANSWER: "Decision delivered",
}
NOT_YET: Final = "Accepted, not carried out yet"
NOBODY_KNOWS: Final = "Its worker was lost: nobody knows whether it was carried out"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `prepare` looks at the locked session before, refuses, or changes its row."""

    new: NewInput
    prepare: Callable[[Session, datetime], None] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands in the mailbox now."""

    session_id: UUID
    kind: Kind
    row: Accepted


def ask(session_id: UUID, question: Question) -> tuple[dict[str, Any], int]:
    """Return body and status: 200 once it is done, 202 if it is not after a while. Raises what says why it cannot be."""
    return outcome(accept(session_id, question))


def accept(session_id: UUID, question: Question) -> Asked:
    """Write it into the mailbox, where it has its place from then on."""
    new = question.new
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        session = inputs.open_mailbox(tx, session_id, current_caller().sees, at=at)
        if question.prepare is not None:
            question.prepare(session, at)
        row = inputs.accept(tx, session, new, origin(), at=at)
        detail = {"input_id": str(row.input_id), **(new.detail or {})}
        note(tx, f"session.{new.kind}", session_id, at=at, detail=detail)
    web.doorbell.ring(row.bell, request_id=request_id.current())
    return Asked(session_id, new.kind, row)


def outcome(asked: Asked) -> tuple[dict[str, Any], int]:
    """Wait until it is carried out, or for a while, and return what to answer."""
    state, reason = _wait(asked.session_id, asked.row)
    message, status = _said(asked.kind, state, reason)
    body = {
        "message": message,
        "session_id": str(asked.session_id),
        "input_id": str(asked.row.input_id),
        "input_seq": asked.row.input_seq,
        "state": state,
    }
    return body, status


def _wait(session_id: UUID, row: Accepted) -> tuple[State, str | None]:
    """Return how far a row has come when it comes no further, or after a while."""
    web = current_web()
    deadline = web.clock.now() + WAIT_SECONDS
    looks = iter(LOOKS)
    while True:
        with web.database.transaction() as tx:
            state, reason = inputs.state_of(tx, session_id, row.input_seq)
        left = deadline - web.clock.now()
        if state not in (State.ACCEPTED, State.WRITING) or left <= 0:
            return state, reason
        time.sleep(min(left, next(looks, LOOKS[-1])))


def _said(kind: Kind, state: State, reason: str | None) -> tuple[str, int]:
    if state is State.WRITTEN:
        return DONE[kind], 200
    if state is State.FAILED:
        return _failed(kind, reason)
    return (NOBODY_KNOWS if state is State.UNKNOWN else NOT_YET), 202


def _failed(kind: Kind, reason: str | None) -> tuple[str, int]:
    match kind, reason:
        case Kind.EOF, "stdin_closed":
            # What was asked for is so, whoever closed it: a client that asks again is told the same.
            return "The input has ended already", 200
        case _, "session_ended":
            raise SessionEnded
        case Kind.ANSWER, "withdrawn" | "stdin_closed":
            raise RequestSettled("withdrawn")
        case _, "no_terminal":
            raise NoTerminal
        case _, "stdin_closed":
            raise NoTerminal("The terminal is closed.")
        case _:
            raise JelmoreError(f"A worker refused {kind} for a reason nobody foresaw: {reason}.")
