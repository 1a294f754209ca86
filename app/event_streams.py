"""Answers that are streams of Server-Sent Events: written by the relay's hub where connections can be taken, or by the server."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from flask import Response, request

from app.auth import current_caller
from app.detached import Detached, can_detach, visit
from app.errors import INTERNAL
from app.origin import deed
from core.errors import InvalidApiKey, JelmoreError
from models import audit
from streams import sse
from streams.entries import timestamp_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from uuid import UUID

    from app.key_watch import Watched
    from app.open_streams import Place
    from app.web import Web
    from models.tables import Session
    from streams.sending import Stream

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


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream that is to be opened. `make` and `admit`: by the hub, on a descriptor; `pull`: by whoever serves it."""

    action: str
    """What the audit calls it."""
    first: bytes
    """What is sent before anything that is followed."""
    make: Callable[[int], Stream]
    admit: Callable[[Any, bytes], None]
    pull: Callable[[], Iterator[bytes]]
    sessions: Sequence[Session] = ()

    @property
    def names(self) -> Sequence[UUID | None]:
        """Return whom the audit is to tell about it: the sessions that are followed."""
        return [session.id for session in self.sessions] or [None]


def opened(web: Web, opening: Opening) -> Response:
    """Answer with a stream. Takes a place, and writes who follows whom. Raises TooManyStreamsOfKey or TooManyStreams."""
    detached = can_detach()
    place = web.streams.enter(*opening.sessions, key=current_caller().identity, holds=not detached)
    try:
        with web.database.transaction() as tx:
            audit.record(tx, *[deed(opening.action, name, at=web.clock.at()) for name in opening.names])
    except BaseException:
        place.leave()
        raise
    return _detached(web, opening, place) if detached else _served(web, opening, place)


def only_headers() -> Response:
    """Answer a HEAD."""
    return Response(iter(()), headers=HEADERS)  # an iterator: a stream has no length


def nothing_follows() -> Response:
    """Answer 204: it is what keeps an EventSource from coming again."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def _detached(web: Web, opening: Opening, place: Place) -> Response:
    """Let the relay's hub write the stream."""
    came, caller = visit(place), current_caller()

    def adopt(fd: int, head: bytes) -> None:
        stream = opening.make(fd)
        stream.left = came.left
        opening.admit(stream, head + opening.first)
        if stream.is_open:  # not before: the head comes first, whatever becomes of the key
            came.watched = web.key_watch.enter(caller, stream.cut, partial(stream.refuse, InvalidApiKey()))

    return Detached(adopt, came.leave, headers=HEADERS)


def _served(web: Web, opening: Opening, place: Place) -> Response:
    """Let the server write the stream, one of its connections long."""
    watched = web.key_watch.enter(current_caller(), _cutter())
    _limit_waiting(web)
    response = Response(_events(web, opening, watched), headers=HEADERS)
    response.call_on_close(partial(_left, web, opening, web.clock.now(), place, watched))
    return response


def _left(web: Web, opening: Opening, since: float, place: Place, watched: Watched) -> None:
    place.leave()
    web.key_watch.leave(watched)
    log.info("stream closed", **_told(opening), seconds=round(web.clock.now() - since, 3))


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


def _events(web: Web, opening: Opening, watched: Watched) -> Iterator[bytes]:
    """Yield the stream. Whatever happens inside is told inside: the status line is long gone."""
    yield opening.first
    try:
        # Closed by us, at once: a follower that waits for the garbage collector still counts.
        with closing(cast("Generator[bytes]", opening.pull())) as chunks:
            for chunk in chunks:
                for piece in _pieces(chunk):
                    watched.check()
                    yield piece
    except JelmoreError as fault:
        log.warning("a stream cannot go on", **_told(opening), error=fault.code)
        yield sse.stream_error(fault.code, fault.detail, _at_ms(web))
    except Exception:  # whatever it is, the reader is told and the log has it
        log.exception("a stream met an error nobody foresaw", **_told(opening))
        yield sse.stream_error(JelmoreError.code, INTERNAL, _at_ms(web))


def of_sessions(web: Web, sessions: Sequence[Session], **how: Any) -> Opening:
    """Return a stream of sessions' logs."""
    at_ms = _at_ms(web)
    first = b"".join(sse.connected(session.id, at_ms) for session in sessions)
    return Opening("session.stream", first, sessions=sessions, **how)


def _told(opening: Opening) -> dict[str, str]:
    """Return what lines of the log say of it."""
    return {"session_id": ",".join(map(str, opening.names))} if opening.sessions else {}


def _pieces(chunk: bytes) -> Iterator[bytes]:
    if len(chunk) <= PIECE_BYTES:
        yield chunk
        return
    for start in range(0, len(chunk), PIECE_BYTES):
        yield chunk[start : start + PIECE_BYTES]


def _at_ms(web: Web) -> int:
    return timestamp_ms(web.clock.at())
