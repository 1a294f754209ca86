"""GET /sessions/{id}/output/search: where a text stands in what a session has printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from pydantic import Field

from app.api.root import blueprint
from app.api.schemas import at_most
from app.auth import current_caller, requires
from app.keyring import Permission
from app.queries import Query, read_query
from app.web import current_web
from core.errors import InvalidPosition
from models import sessions
from streams import output, search

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

TEXT_BYTES: Final = 1000


class Wanted(Query):
    """`q`: the text, byte for byte. `offset`: bytes; what begins before it is not found. `limit`: of matches."""

    q: Annotated[str, Field(min_length=1), at_most(TEXT_BYTES)]
    offset: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    ignore_case: bool = False


@blueprint.get("/sessions/<session_id:session_id>/output/search")
@requires(Permission.READ)
def search_output(session_id: UUID) -> ResponseReturnValue:
    """Find a text in the output, up to 16 MiB of it at a time: `next_offset` is where to go on, until it is `complete`.

    Case is ignored of ASCII letters, if at all.
    """
    web, wanted = current_web(), read_query(Wanted)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
    if session.ended_at and wanted.offset > session.output_bytes:
        raise InvalidPosition
    sought = search.Sought(wanted.q.encode(), wanted.ignore_case)
    ended = session.ended_at is not None
    found = search.search(web.log, session_id, sought, wanted.offset, wanted.limit, ended=ended)
    if ended:  # afterwards: some may have gone meanwhile
        output.refuse_gone(web.log, session_id, wanted.offset)
    return {
        "session_id": str(session_id),
        "matches": [{"offset": match.offset, "length": len(sought.text), "seq": match.seq} for match in found.matches],
        "next_offset": found.next_offset,
        "complete": found.complete,
    }
