"""What a session has printed, by byte position: a page as JSON, or all of it as the exact bytes."""

from __future__ import annotations

import base64
from itertools import chain
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
from core.errors import InvalidPosition, RangeNotSatisfiable
from models import sessions
from streams import output
from streams.entries import utf8_tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.typing import ResponseReturnValue

    from app.web import Web
    from models.tables import Session
    from streams.output import Slice

MIB: Final = 1024 * 1024
RANGES: Final = {"Accept-Ranges": "bytes"}


class Page(Query):
    """GET /sessions/{id}/output. `offset` and `limit` are bytes; `tail`, in the place of `offset`: lines before the end.

    `view`: text (plain is the same), or the bytes that were printed.
    """

    offset: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tail: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    limit: Annotated[int, Field(ge=1, le=8 * MIB)] = MIB
    encoding: Literal["utf-8", "base64"] = "utf-8"
    view: Literal["text", "plain", "raw"] = "text"

    @property
    def as_bytes(self) -> bool:
        """Whether exact bytes are wanted."""
        return self.encoding == "base64" or self.view == "raw"


@blueprint.get("/sessions/<session_id:session_id>/output")
@requires(Permission.READ)
def show_output(session_id: UUID) -> ResponseReturnValue:
    """Show output from a position on. As text/plain it is the exact bytes, all there are now, or a range of them."""
    web = current_web()
    page = read_positions(Page)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
    if page.tail is not None:
        offset = output.tail_offset(web.log, session_id, page.tail)[1]
    elif session.ended_at and page.offset > session.output_bytes:
        raise InvalidPosition
    else:
        offset = page.offset
    if request.accept_mimetypes.best_match(("application/json", "text/plain")) == "text/plain":
        return _text(web, session, page, offset)
    piece = output.read(web.log, session_id, offset, page.limit, ended=session.ended_at is not None)
    return {
        "session_id": str(session_id),
        **_shown(piece, page),
        "status": session.status,
        "retrieved_at": iso(web.clock.at()),
    }


def _shown(piece: Slice, page: Page) -> dict[str, Any]:
    data = piece.data if page.as_bytes else _whole_characters(piece, page.limit)
    content = (
        {"output_base64": base64.b64encode(data).decode()}
        if page.as_bytes
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


def _text(web: Web, session: Session, page: Page, offset: int) -> Response:
    """Answer with the exact bytes; `limit` is one only if the client says so."""
    span = None
    if page.model_fields_set.isdisjoint(("offset", "limit", "tail")):  # else the piece is named already
        span = _range(web, session)
    if span is None:
        most = page.limit if "limit" in page.model_fields_set else None
        return Response(_begun(_exact(web, session, offset, most)), mimetype="text/plain", headers=RANGES)
    start, stop, size = span
    response = Response(_begun(_exact(web, session, start, stop - start)), 206, RANGES, mimetype="text/plain")
    response.content_range.set(start, stop, size)
    response.content_length = stop - start
    return response


def _range(web: Web, session: Session) -> tuple[int, int, int] | None:
    """Return (start, stop, size) of the range that is asked for; None for several, or none that HTTP knows.

    Of a live session the size is that of now. Raises RangeNotSatisfiable.
    """
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or "If-Range" in request.headers:
        return None  # If-Range: there is no validator that it could have
    size = session.output_bytes if session.ended_at else output.size(web.log, session.id)
    start, stop = wanted.ranges[0]
    if start < 0:  # the last so many: more than there are is all (RFC 9110, 14.1.2)
        start = max(0, size + start)
    stop = size if stop is None else min(stop, size)
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop, size


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first piece now, while there is still a status to say what is wrong."""
    return chain([next(pieces, b"")], pieces)


def _exact(web: Web, session: Session, offset: int, most: int | None) -> Iterator[bytes]:
    """Yield the exact bytes there are now, a page in memory at a time."""
    ended = session.ended_at is not None
    while most is None or most > 0:
        wanted = MIB if most is None else min(MIB, most)
        piece = output.read(web.log, session.id, offset, wanted, ended=ended)
        yield piece.data
        if len(piece.data) < wanted:
            return
        offset = piece.next_offset
        most = None if most is None else most - wanted
