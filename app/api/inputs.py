"""Input to a live session: a row in its mailbox, then a bell. And the rows, as far as they have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import jsonify
from pydantic import Field

from app import request_id
from app.api.root import blueprint
from app.api.schemas import InputRequest, InputView
from app.auth import current_caller, requires
from app.bodies import read_body
from app.keyring import Permission
from app.origin import note, origin
from app.queries import Query, read_query
from app.web import current_web
from models import inputs, sessions
from models.inputs import Kind, NewInput

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


class Page(Query):
    """GET /sessions/{id}/inputs. `after`: an input_seq."""

    after: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@blueprint.post("/sessions/<session_id:session_id>/input")
@requires(Permission.WRITE)
def send_input(session_id: UUID) -> ResponseReturnValue:
    """Accept input: numbered and durable before the answer."""
    return accept_input(session_id, read_body(InputRequest))


def accept_input(session_id: UUID, wanted: InputRequest) -> dict[str, Any]:
    """Write input into a session's mailbox, ring, and return what the one who sent it is told."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        session = inputs.open_mailbox(tx, session_id, current_caller().sees, at=at)
        body = wanted.exact(terminal=session.terminal is not None)
        row = inputs.accept(tx, session, NewInput(Kind.INPUT, body, metadata=wanted.metadata), origin(), at=at)
        note(tx, "session.input", session_id, at=at, detail={"input_id": str(row.input_id)})
    web.doorbell.ring(row.bell, request_id=request_id.current())
    return {
        "message": "Input sent successfully",
        "session_id": str(session_id),
        "input_length": len(wanted.input.encode()),
        "input_id": str(row.input_id),
        "input_seq": row.input_seq,
    }


@blueprint.get("/sessions/<session_id:session_id>/inputs")
@requires(Permission.READ)
def list_inputs(session_id: UUID) -> ResponseReturnValue:
    """List what was asked of a session, in order, and how far each has come; never the text, which may be a password."""
    page = read_query(Page)
    with current_web().database.transaction() as tx:
        sessions.visible(tx, session_id, current_caller().sees)
        rows = inputs.listing(tx, session_id, after=page.after, limit=page.limit)
    return jsonify([InputView.of(row).as_json() for row in rows])
