"""Following a session over Server-Sent Events: whether, from where, and how a stream ends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import Response, request

from app.api.root import blueprint
from app.auth import current_caller, requires_or_ticket
from app.detached import Detached, can_detach, visit
from app.keyring import Permission
from app.limits import limited
from app.origin import note
from app.positions import start_of
from app.queries import Query, read_query
from app.served import at_ms, serve
from app.web import current_web
from core.errors import InvalidApiKey
from models import sessions
from streams import sse
from streams.entries import EntryKind
from streams.followers import EventStream
from streams.pulling import pulled
from streams.ring import Wish, as_sse, as_sse_base64

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flask.typing import ResponseReturnValue

    from app.open_streams import Place
    from app.web import Web

HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    # nginx would collect a stream until it is worth sending.
    "X-Accel-Buffering": "no",
}


class Filter(Query):
    """What of a stream is wanted."""

    events: tuple[str, ...] = ()
    encoding: Literal["utf-8", "base64"] = "utf-8"

    @property
    def kinds(self) -> frozenset[EntryKind] | None:
        """Return the kinds of entries wanted; None: all. Names stand between commas; an unknown one matches nothing."""
        return kinds_named(name for names in self.events for name in names.split(",")) if self.events else None


def kinds_named(names: Iterable[str]) -> frozenset[EntryKind]:
    """Return the kinds of entries of these names."""
    wanted = {name.strip() for name in names}
    return frozenset(kind for kind in EntryKind if kind in wanted)


@blueprint.get("/sessions/<session_id:session_id>/stream")
@requires_or_ticket(Permission.READ)
@limited("streaming")
def stream_session(session_id: UUID) -> ResponseReturnValue:
    """Follow a session until after its end. No database connection is held meanwhile."""
    web = current_web()
    wanted = read_query(Filter)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, current_caller().sees)
    start = start_of(web.log, session, request.headers, request.args)
    if start is None:
        return nothing_follows()
    if request.method == "HEAD":
        return Response(iter(()), headers=HEADERS)  # an iterator: a stream has no length
    wish = Wish(start.after, start.skip_to, wanted.kinds, form=as_sse_base64 if wanted.encoding == "base64" else as_sse)
    detached = can_detach()
    place = web.streams.enter(session, current_caller().identity, holds=not detached)
    try:
        with web.database.transaction() as tx:
            note(tx, "session.stream", session_id, at=web.clock.at())
    except BaseException:
        place.leave()
        raise
    return _detached(web, session_id, wish, place) if detached else _served(web, session_id, wish, place)


def _detached(web: Web, session_id: UUID, wish: Wish, place: Place) -> Response:
    """Let the relay's hub write the stream."""
    came, caller, began_ms = visit(place), current_caller(), at_ms(web)

    def adopt(fd: int, head: bytes) -> None:
        stream = EventStream(web.hub, session_id, wish, fd)
        stream.left = came.left
        web.hub.admit(stream, head + sse.connected(session_id, began_ms))
        if stream.is_open:  # not before: the head comes first, whatever becomes of the key
            came.watched = web.key_watch.enter(caller, stream.cut, partial(stream.refuse, InvalidApiKey()))

    return Detached(adopt, came.leave, headers=HEADERS)


def _served(web: Web, session_id: UUID, wish: Wish, place: Place) -> Response:
    """Let the server write the stream, one of its connections long."""

    def pull() -> Iterator[bytes]:
        yield sse.connected(session_id, at_ms(web))
        yield from pulled(web.hub, session_id, wish)

    return serve(web, [place], pull, HEADERS, session_id=str(session_id))


def nothing_follows() -> Response:
    """Answer 204: it is what keeps an EventSource from coming again."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
