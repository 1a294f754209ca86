"""What programs want decided: listed, and answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import jsonify
from pydantic import BaseModel, BeforeValidator, Field

from app import request_id
from app.api.root import blueprint
from app.api.schemas import Body, at_most
from app.asking import Asked, outcome
from app.auth import current_caller, requires
from app.bodies import read_body
from app.keyring import Permission
from app.origin import note, origin
from app.queries import Query, read_query
from app.times import Instant  # noqa: TC001  (pydantic reads the annotations)
from app.web import current_web
from models import inputs, requests, sessions
from models.inputs import Kind
from models.requests import Decision, RequestState

if TYPE_CHECKING:
    from typing import Self

    from flask.typing import ResponseReturnValue

    from models.tables import Request

ACTION: Final = "session.request"
MESSAGE_BYTES: Final = 10_000


class Listing(Query):
    """GET /sessions/{id}/requests. `state` may be given several times: those in one of these."""

    state: Annotated[
        tuple[RequestState, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)
    ] = ()
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class DecisionRequest(Body):
    """POST /sessions/{id}/requests/{request_id}.

    `input`: what the tool is given instead of what it asked for. `message`: what the program is told with a denial.
    `remember` session: what the program suggests to allow as well is allowed from here on.
    """

    decision: Literal["allow", "deny"]
    input: dict[str, Any] | None = None
    message: Annotated[str, at_most(MESSAGE_BYTES)] | None = None
    remember: Literal["once", "session"] = "once"

    def as_decision(self) -> Decision:
        """Return what is written."""
        return Decision(self.decision == "allow", self.input, self.message, self.remember)


class RequestView(BaseModel):
    """What a program wants decided, and what became of it. `input`: what the tool is to be given; `changed_input`: what it was."""

    request_id: UUID
    session_id: UUID
    kind: str
    tool: str
    input: dict[str, Any]
    description: str | None
    state: RequestState
    message: str | None
    changed_input: dict[str, Any] | None
    remember: str | None
    decided_by: str | None
    created_at: Instant
    decided_at: Instant | None

    @classmethod
    def of(cls, row: Request) -> Self:
        """Show a row."""
        return cls(
            request_id=row.id,
            session_id=row.session_id,
            kind=row.kind,
            tool=row.tool,
            input=row.input,
            description=row.description,
            state=RequestState(row.state),
            message=row.message,
            changed_input=row.changed_input,
            remember=row.remember,
            decided_by=row.decided_by,
            created_at=row.created_at,
            decided_at=row.decided_at,
        )


@blueprint.get("/sessions/<session_id:session_id>/requests")
@requires(Permission.READ)
def list_requests(session_id: UUID) -> ResponseReturnValue:
    """List what a session's program wanted decided, the oldest first."""
    wanted = read_query(Listing)
    with current_web().database.transaction() as tx:
        sessions.visible(tx, session_id, current_caller().sees)
        rows = requests.listing(tx, session_id, states=wanted.state, limit=wanted.limit)
        shown = [RequestView.of(row).model_dump(mode="json") for row in rows]
    return jsonify(shown)


@blueprint.post("/sessions/<session_id:session_id>/requests/<session_id:asked_id>")
@requires(Permission.WRITE)
def decide_request(session_id: UUID, asked_id: UUID) -> ResponseReturnValue:
    """Answer what a program wants decided. The first answer counts; one that comes too late is refused."""
    return outcome(accept_decision(session_id, asked_id, read_body(DecisionRequest)))


def accept_decision(session_id: UUID, asked_id: UUID, wanted: DecisionRequest) -> Asked:
    """Write a decision, and put it into the session's mailbox."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        session = inputs.open_mailbox(tx, session_id, current_caller().sees, at=at)
        row, asked = requests.decide(tx, session, asked_id, wanted.as_decision(), origin(), at=at)
        # Who allowed what; the input itself, which may hold secrets, is the session's.
        detail = {"request_id": str(asked_id), "kind": asked.kind, "tool": asked.tool, "decision": wanted.decision}
        note(tx, ACTION, session_id, at=at, detail=detail | {"remember": wanted.remember})
    web.doorbell.ring(row.bell, request_id=request_id.current())
    return Asked(session_id, Kind.ANSWER, row)
