"""Input to a live session: a row in its mailbox, then a bell. And the rows, as far as they have come."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import jsonify
from pydantic import Field

from app import request_id
from app.api.root import blueprint
from app.api.schemas import InputRequest
from app.api.shown import InputView
from app.auth import current_caller, requires
from app.bodies import read_body
from app.conversations import refused
from app.idempotency import Effect, claimed, once, perform
from app.keyring import Permission
from app.origin import deed, note, origin
from app.queries import Query, read_query
from app.web import current_web
from core.errors import LineTooLong
from core.ids import uuid7
from core.programs import CONVERSATIONS
from models import inputs, sessions
from models.inputs import Kind, NewInput
from models.mailings import Letter

if TYPE_CHECKING:
    from datetime import datetime

    from flask.typing import ResponseReturnValue

    from app.web import Web
    from models.database import Transaction
    from models.inputs import Accepted

ACTION: Final = "session.input"


class Page(Query):
    """GET /sessions/{id}/inputs. `after`: an input_seq."""

    after: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@blueprint.post("/sessions/<session_id:session_id>/input")
@requires(Permission.WRITE)
def send_input(session_id: UUID) -> ResponseReturnValue:
    """Accept input: numbered and durable before the answer."""
    wanted = read_body(InputRequest)
    return once(f"POST sessions/{session_id}/input", wanted, partial(_accept, current_web(), session_id, wanted))


def accept_message(session_id: UUID, wanted: InputRequest, message_id: str | None) -> dict[str, Any]:
    """Accept input that came over a socket, and return what POST would have answered.

    Input with the `message_id` of a former one of this session, sent with the same key, was accepted then.
    """
    web = current_web()
    claim = None
    if message_id is not None:
        # Ids of messages are often 1, 2, 3: those of other sessions are not to be met.
        claim = claimed(current_caller(), f"{session_id}/{message_id}", f"message to {session_id}", wanted)
    answer, _ = perform(web, claim, partial(_accept, web, session_id, wanted))
    told: dict[str, Any] = json.loads(answer.body)
    return told


def _accept(web: Web, session_id: UUID, wanted: InputRequest, tx: Transaction | None) -> Effect:
    at = web.clock.at()
    row = None if tx is not None else web.together.accept(_letter(session_id, wanted, at=at))
    if row is None:
        with nullcontext(tx) if tx is not None else web.database.transaction() as own:
            row = _accept_alone(own, session_id, wanted, at=at)
    answer = {
        "message": "Input sent successfully",
        "session_id": str(session_id),
        "input_length": len(wanted.input.encode()),
        "input_id": str(row.input_id),
        "input_seq": row.input_seq,
    }
    return Effect(answer, then=partial(web.doorbell.ring, row.bell, request_id=request_id.current()))


def _accept_alone(tx: Transaction, session_id: UUID, wanted: InputRequest, *, at: datetime) -> Accepted:
    """Accept input in a transaction, or raise what says why not."""
    session = inputs.open_mailbox(tx, session_id, current_caller().sees, at=at)
    new = said(wanted) if session.program in CONVERSATIONS else typed(wanted, terminal=session.terminal is not None)
    row = inputs.accept(tx, session, new, origin(), at=at)
    note(tx, ACTION, session_id, at=at, detail={"input_id": str(row.input_id)})
    return row


def _letter(session_id: UUID, wanted: InputRequest, *, at: datetime) -> Letter:
    """Return input for a session of which nothing is known yet, not even whether it has a terminal."""
    input_id = uuid7()
    try:
        at_terminal = wanted.exact(terminal=True).decode()
    except LineTooLong:
        at_terminal = None
    return Letter(
        id=input_id,
        session_id=session_id,
        owner=current_caller().sees,
        body=wanted.exact(terminal=False).decode(),
        body_at_terminal=at_terminal,
        said=wanted.input,
        mode=wanted.mode,
        metadata=wanted.metadata,
        origin=origin(),
        at=at,
        deed=deed(ACTION, session_id, at=at, detail={"input_id": str(input_id)}),
    )


def typed(wanted: InputRequest, *, terminal: bool) -> NewInput:
    """Return what is written to any program. Raises LineTooLong, ValidationFailed."""
    if wanted.mode != "queue":
        raise refused("mode", "its program does not converse: input has its place behind what was sent before")
    return NewInput(Kind.INPUT, wanted.exact(terminal=terminal), metadata=wanted.metadata)


def said(wanted: InputRequest) -> NewInput:
    """Return what is said to a program that converses: the text as it is. Raises ValidationFailed."""
    if not wanted.input.strip():
        raise refused("input", "says nothing")
    detail = None if wanted.mode == "queue" else {"mode": wanted.mode}
    return NewInput(Kind.INPUT, wanted.input.encode(), detail, wanted.metadata)


@blueprint.get("/sessions/<session_id:session_id>/inputs")
@requires(Permission.READ)
def list_inputs(session_id: UUID) -> ResponseReturnValue:
    """List what was asked of a session, in order, and how far each has come; never the text, which may be a password."""
    page = read_query(Page)
    with current_web().database.transaction() as tx:
        sessions.visible(tx, session_id, current_caller().sees)
        rows = inputs.listing(tx, session_id, after=page.after, limit=page.limit)
    return jsonify([InputView.of(row).as_json() for row in rows])
