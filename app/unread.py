"""Requests whose body nobody has read: refused for their size, their key, their path, or because it came too slowly.

gunicorn would read such a body to its end to find the next request behind it, however long and slow it is. Here the
connection ends instead, unless the rest is small and there at once: the answer says so, and what is still under way
is read for a moment, because closing with unread bytes resets the connection, and the client may lose the answer.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import gevent
from werkzeug.wsgi import ClosingIterator

from app.process import is_patched

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
SMALL_BYTES: Final = 64 * 1024
SMALL_SECONDS: Final = 0.5


class Unread:
    """Ends connections with an unread body, around the whole application."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        body = self._app(environ, start_response)
        answer: Any = getattr(start_response, "__self__", None)  # gunicorn's response, if it is gunicorn who asks
        if not hasattr(answer, "force_close") or not is_unread(environ) or _is_drained(environ):
            return body
        answer.force_close()
        return ClosingIterator(body, partial(linger, environ["gunicorn.socket"]))


def is_unread(environ: WSGIEnvironment) -> bool:
    """Whether some of the request's body has yet to be read."""
    return "HTTP_TRANSFER_ENCODING" in environ or _missing(environ) > 0


def _missing(environ: WSGIEnvironment) -> int:
    """Return how many bytes of a body of known length gunicorn has not been asked for."""
    reader: Any = getattr(environ["wsgi.input"], "reader", None)
    return int(getattr(reader, "length", 0))


def _is_drained(environ: WSGIEnvironment) -> bool:
    """Read a small body, which is on its way right behind its head: then the connection can stay."""
    if "HTTP_TRANSFER_ENCODING" in environ or _missing(environ) > SMALL_BYTES or not is_patched():
        return False
    with gevent.Timeout(SMALL_SECONDS, False), suppress(OSError):  # False: without an exception
        environ["wsgi.input"].read(SMALL_BYTES)
    return not is_unread(environ)


def linger(client: socket.socket) -> None:
    """Tell the client that nothing follows, and take what it is still sending, for a moment."""
    give_up = time.monotonic() + LINGER_SECONDS
    taken = 0
    with suppress(OSError, ValueError):
        client.shutdown(socket.SHUT_WR)
        while taken < LINGER_BYTES and (left := give_up - time.monotonic()) > 0:
            client.settimeout(left)
            piece = client.recv(PIECE_BYTES)
            if not piece:
                return
            taken += len(piece)
            gevent.sleep(0)  # bytes that are there already are read without letting others run
