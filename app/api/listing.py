"""Finding sessions: filters, pages, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from flask import jsonify, request
from pydantic import Field

from app.api.root import blueprint
from app.api.schemas import Name  # noqa: TC001  (pydantic reads the annotations)
from app.api.sessions import shown
from app.auth import current_caller, requires
from app.json_input import refuse_unstorable
from app.keyring import Permission
from app.pages import Cursor, next_page
from app.queries import Query, read_query, refuse_unreadable
from app.times import Moment  # noqa: TC001  (as above)
from app.web import current_web
from core.errors import ValidationFailed
from models import listing
from models.lifecycle import Status  # noqa: TC001  (as above)
from models.listing import SessionQuery

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

METADATA: Final = "metadata."
MOST_OF_METADATA: Final = 10


class Listing(Query):
    """GET /sessions. Beside these: `metadata.<key>`, the value of a member of the metadata."""

    user_id: Name | None = None
    status: tuple[Status, ...] = ()
    program: Name | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None
    count: bool = False


@blueprint.get("/sessions")
@requires(Permission.READ)
def list_sessions() -> ResponseReturnValue:
    """List sessions, newest first."""
    wanted = read_query(Listing)
    query = SessionQuery(
        owner=current_caller().sees,
        user_id=wanted.user_id,
        statuses=wanted.status,
        program=wanted.program,
        metadata=_metadata(),
        created_after=wanted.created_after,
        created_before=wanted.created_before,
        before=wanted.cursor,
        limit=wanted.limit,
    )
    headers = {}
    with current_web().database.transaction() as tx:
        found, more = listing.page(tx, query)
        views = shown(tx, found)
        if wanted.count:
            headers["X-Total-Count"] = str(listing.count(tx, query))
    if more:
        headers |= next_page(found[-1].id)
    return jsonify(views), headers


def _metadata() -> dict[str, str]:
    """Return what the metadata is to hold. Raises ValidationFailed for more than anybody means, or text no row can hold."""
    given = [
        (name.removeprefix(METADATA), value)
        for name, value in request.args.items(multi=True)
        if name.startswith(METADATA)
    ]
    refuse_unreadable({f"{METADATA}{name}": [name, value] for name, value in given})
    refuse_unstorable([list(pair) for pair in given])
    wanted = dict(given)
    if len(given) > MOST_OF_METADATA or len(wanted) < len(given):
        message = f"at most {MOST_OF_METADATA} members of the metadata, each once"
        raise ValidationFailed(errors=[{"loc": ["metadata"], "msg": message, "type": "too_many"}])
    return wanted
