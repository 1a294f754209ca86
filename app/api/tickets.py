"""Tickets: for browsers, whose EventSource and WebSocket cannot send the Authorization header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from pydantic import Field

from app.api.root import blueprint
from app.api.schemas import Body
from app.auth import current_caller, need, requires_key
from app.bodies import read_body
from app.keyring import Permission
from app.origin import note
from app.times import iso
from app.web import current_web
from models import sessions, tickets
from models.tickets import Bearer

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


class TicketRequest(Body):
    """POST /sessions/{id}/tickets."""

    scopes: Annotated[list[Literal["read", "write"]], Field(min_length=1, max_length=2)]


@blueprint.post("/sessions/<session_id:session_id>/tickets")
@requires_key
def issue_ticket(session_id: UUID) -> ResponseReturnValue:
    """Give a ticket for one stream of a session: for what the key may do itself, and nothing else."""
    web, caller = current_web(), current_caller()
    wanted = read_body(TicketRequest)
    for scope in wanted.scopes:
        need(Permission(scope))
    scopes = sorted(set(wanted.scopes))
    with web.database.transaction() as tx:
        sessions.visible(tx, session_id, caller.sees)
        issued = tickets.issue(tx, session_id, scopes, Bearer(caller.key_id, caller.key_name, caller.generation))
        note(tx, "session.ticket", session_id, at=web.clock.at(), detail={"scopes": scopes})
    return {"ticket": issued.ticket, "expires_at": iso(issued.expires_at)}, 201
