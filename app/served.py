"""A stream that the web server writes, one of its connections long: where its socket cannot be taken, and for many sessions."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from flask import Response, request

from app.auth import current_caller
from app.errors import INTERNAL
from core.errors import JelmoreError
from streams import sse
from streams.entries import timestamp_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from app.key_watch import Watched
    from app.open_streams import Place
    from app.web import Web

log = structlog.get_logger("app.api.streams")

PIECE_BYTES: Final = 64 * 1024
"""A socket's time-out is for one write: a slow reader gets it for each of these, not for a megabyte."""


def serve(
    web: Web, places: list[Place], pull: Callable[[], Iterator[bytes]], headers: Mapping[str, str], **told: Any
) -> Response:
    """Answer with what `pull` yields. `told`: what the log says of it."""
    watched = web.key_watch.enter(current_caller(), _cutter())
    _limit_waiting(web)
    response = Response(_events(web, pull, watched, told), headers=headers)
    response.call_on_close(partial(_left, web, web.clock.now(), places, watched, told))
    return response


def _left(web: Web, since: float, places: list[Place], watched: Watched, told: Mapping[str, Any]) -> None:
    for place in places:
        place.leave()
    web.key_watch.leave(watched)
    log.info("stream closed", **told, seconds=round(web.clock.now() - since, 3))


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


def _events(
    web: Web, pull: Callable[[], Iterator[bytes]], watched: Watched, told: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yield the stream. Whatever happens inside is told inside: the status line is long gone."""
    try:
        # Closed by us, at once: a follower that waits for the garbage collector still counts.
        with closing(cast("Generator[bytes]", pull())) as chunks:
            for chunk in chunks:
                for piece in _pieces(chunk):
                    watched.check()
                    yield piece
    except JelmoreError as fault:
        log.warning("a stream cannot go on", **told, error=fault.code)
        yield sse.stream_error(fault.code, fault.detail, at_ms(web))
    except Exception:  # whatever it is, the reader is told and the log has it
        log.exception("a stream met an error nobody foresaw", **told)
        yield sse.stream_error(JelmoreError.code, INTERNAL, at_ms(web))


def _pieces(chunk: bytes) -> Iterator[bytes]:
    if len(chunk) <= PIECE_BYTES:
        yield chunk
        return
    for start in range(0, len(chunk), PIECE_BYTES):
        yield chunk[start : start + PIECE_BYTES]


def at_ms(web: Web) -> int:
    """Return the time, in milliseconds since 1970."""
    return timestamp_ms(web.clock.at())
