"""Input to a live session: a row in its mailbox, then a bell."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from app import request_id
from app.api.root import blueprint
from app.api.schemas import InputRequest
from app.auth import current_caller, requires
from app.bodies import read_body
from app.keyring import Permission
from app.origin import note, origin
from app.web import current_web
from models import inputs
from models.inputs import Kind, NewInput

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


@blueprint.post("/sessions/<session_id:session_id>/input")
@requires(Permission.WRITE)
def send_input(session_id: UUID) -> ResponseReturnValue:
    """Accept input: numbered and durable before the answer."""
    web = current_web()
    wanted = read_body(InputRequest)
    new = NewInput(Kind.INPUT, wanted.exact, metadata=wanted.metadata)
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = inputs.accept(tx, session_id, current_caller().sees, new, origin(), at=at)
        note(tx, "session.input", session_id, at=at, detail={"input_id": str(row.input_id)})
    web.doorbell.ring(row.bell, request_id=request_id.current())
    return {
        "message": "Input sent successfully",
        "session_id": str(session_id),
        "input_length": len(wanted.input.encode()),
        "input_id": str(row.input_id),
        "input_seq": row.input_seq,
    }
