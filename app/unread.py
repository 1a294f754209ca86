"""Requests whose body nobody has read: refused for their size, their key, their path, or because it came too slowly.

gunicorn would read such a body to its end to find the next request behind it, however long and slow it is. Here the
connection ends instead: the answer says so, and what is still under way is read for a moment, because closing
with unread bytes resets the connection, and the client may lose the answer.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import gevent
from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024


class Unread:
    """Ends connections with an unread body, around the whole application."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        body = self._app(environ, start_response)
        answer: Any = getattr(start_response, "__self__", None)  # gunicorn's response, if it is gunicorn who asks
        if not hasattr(answer, "force_close") or not is_unread(environ):
            return body
        answer.force_close()
        return ClosingIterator(body, partial(linger, environ["gunicorn.socket"]))


def is_unread(environ: WSGIEnvironment) -> bool:
    """Whether some of the request's body has yet to come."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    reader: Any = getattr(environ["wsgi.input"], "reader", None)
    missing = getattr(reader, "length", 0)
    return bool(missing) and missing > reader.unreader.buf.getbuffer().nbytes


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
