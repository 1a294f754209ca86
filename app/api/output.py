"""What a session has printed, by byte position: a page as JSON, or all of it as the exact bytes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import Response, request
from pydantic import Field

from app.api.root import blueprint
from app.auth import current_caller, requires
from app.keyring import Permission
from app.queries import Query, read_positions
from app.times import iso
from app.web import current_web
from core.errors import InvalidPosition
from models import sessions
from streams import output
from streams.entries import utf8_tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from app.web import Web
    from streams.output import Slice

MIB: Final = 1024 * 1024


class Page(Query):
    """GET /sessions/{id}/output. `offset` and `limit` are bytes."""

    offset: Annotated[int, Field(ge=0, lt=2**63)] = 0
    limit: Annotated[int, Field(ge=1, le=8 * MIB)] = MIB
    encoding: Literal["utf-8", "base64"] = "utf-8"


@blueprint.get("/sessions/<session_id:session_id>/output")
@requires(Permission.READ)
def show_output(session_id: UUID) -> ResponseReturnValue:
    """Show output from a position on."""
    web = current_web()
    page = read_positions(Page)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
    if session.ended_at and page.offset > session.output_bytes:
        raise InvalidPosition
    piece = output.read(web.log, session_id, page.offset, page.limit, ended=session.ended_at is not None)
    if request.accept_mimetypes.best_match(("application/json", "text/plain")) == "text/plain":
        return Response(_exact(web, session_id, page, piece), mimetype="text/plain")
    return {
        "session_id": str(session_id),
        **_shown(piece, page),
        "status": session.status,
        "retrieved_at": iso(web.clock.at()),
    }


def _shown(piece: Slice, page: Page) -> dict[str, Any]:
    data = piece.data if page.encoding == "base64" else _whole_characters(piece, page.limit)
    content = (
        {"output_base64": base64.b64encode(data).decode()}
        if page.encoding == "base64"
        else {"output": data.decode("utf-8", errors="replace")}
    )
    return {
        **content,
        "output_length": len(data),
        "offset": piece.offset,
        "next_offset": piece.offset + len(data),
        "complete": piece.complete,
    }


def _whole_characters(piece: Slice, limit: int) -> bytes:
    """Leave a character that a full page cuts in two to the next page; but never leave a page empty for it.

    A piece of one at the end of what there is now is shown as it is: the worker has waited for the rest of it already.
    """
    whole = len(piece.data) - utf8_tail(piece.data)
    return piece.data if len(piece.data) < limit or whole == 0 else piece.data[:whole]


def _exact(web: Web, session_id: UUID, page: Page, piece: Slice) -> Iterator[bytes]:
    """Yield the exact bytes there are now, a page in memory at a time; `limit` is one only if the client says so."""
    yield piece.data
    while len(piece.data) == page.limit and "limit" not in page.model_fields_set:
        piece = output.read(web.log, session_id, piece.next_offset, page.limit)
        yield piece.data
