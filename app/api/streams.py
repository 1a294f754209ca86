"""Following a session over Server-Sent Events: whether, from where, and how a stream ends."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, cast
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

import structlog
from flask import Response, request

from app.api.root import blueprint
from app.auth import current_caller, requires_or_ticket
from app.detached import Detached, can_detach, visit
from app.errors import INTERNAL
from app.keyring import Permission
from app.limits import limited
from app.origin import note
from app.positions import start_of
from app.queries import Query, read_query
from app.web import current_web
from core.errors import InvalidApiKey, JelmoreError
from models import sessions
from streams import sse
from streams.entries import EntryKind, timestamp_ms
from streams.followers import EventStream
from streams.pulling import pulled
from streams.ring import Wish, as_sse, as_sse_base64

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from flask.typing import ResponseReturnValue

    from app.key_watch import Watched
    from app.open_streams import Place
    from app.web import Web

log = structlog.get_logger(__name__)

HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "Connection": "keep-alive",
    # nginx would collect a stream until it is worth sending.
    "X-Accel-Buffering": "no",
}
PIECE_BYTES: Final = 64 * 1024
"""A socket's time-out is for one write: a slow reader gets it for each of these, not for a megabyte."""


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
        return _nothing_follows()
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
    came, caller, at_ms = visit(place), current_caller(), _at_ms(web)

    def adopt(fd: int, head: bytes) -> None:
        stream = EventStream(web.hub, session_id, wish, fd)
        stream.left = came.left
        web.hub.admit(stream, head + sse.connected(session_id, at_ms))
        if stream.is_open:  # not before: the head comes first, whatever becomes of the key
            came.watched = web.key_watch.enter(caller, stream.cut, partial(stream.refuse, InvalidApiKey()))

    return Detached(adopt, came.leave, headers=HEADERS)


def _served(web: Web, session_id: UUID, wish: Wish, place: Place) -> Response:
    """Let the server write the stream, one of its connections long."""
    watched = web.key_watch.enter(current_caller(), _cutter())
    _limit_waiting(web)
    response = Response(_events(web, session_id, wish, watched), headers=HEADERS)
    response.call_on_close(partial(_left, web, session_id, web.clock.now(), place, watched))
    return response


def _left(web: Web, session_id: UUID, since: float, place: Place, watched: Watched) -> None:
    place.leave()
    web.key_watch.leave(watched)
    log.info("stream closed", session_id=str(session_id), seconds=round(web.clock.now() - since, 3))


def _nothing_follows() -> Response:
    """Answer 204: it is what keeps an EventSource from coming again."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def _limit_waiting(web: Web) -> None:
    """Close on a follower that takes no byte for long: without this it would hold its greenlet for ever."""
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(web.settings.follower_timeout_seconds)


def _cutter() -> Callable[[], None] | None:
    """Return what ends this connection from outside; None where there is none, in a test's process."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return None

    def cut() -> None:
        with suppress(OSError):  # it has ended by itself
            connection.shutdown(socket.SHUT_RDWR)

    return cut


def _events(web: Web, session_id: UUID, wish: Wish, watched: Watched) -> Iterator[bytes]:
    """Yield the stream. Whatever happens inside is told inside: the status line is long gone."""
    yield sse.connected(session_id, _at_ms(web))
    try:
        # Closed by us, at once: a follower that waits for the garbage collector still counts.
        with closing(cast("Generator[bytes]", pulled(web.hub, session_id, wish))) as chunks:
            for chunk in chunks:
                for piece in _pieces(chunk):
                    watched.check()
                    yield piece
    except JelmoreError as fault:
        log.warning("a stream cannot go on", session_id=str(session_id), error=fault.code)
        yield sse.stream_error(fault.code, fault.detail, _at_ms(web))
    except Exception:  # whatever it is, the reader is told and the log has it
        log.exception("a stream met an error nobody foresaw", session_id=str(session_id))
        yield sse.stream_error(JelmoreError.code, INTERNAL, _at_ms(web))


def _pieces(chunk: bytes) -> Iterator[bytes]:
    if len(chunk) <= PIECE_BYTES:
        yield chunk
        return
    for start in range(0, len(chunk), PIECE_BYTES):
        yield chunk[start : start + PIECE_BYTES]


def _at_ms(web: Web) -> int:
    return timestamp_ms(web.clock.at())
