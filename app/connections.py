"""What gunicorn's gevent worker leaves open: clients that send half a request, or read half an answer, and stay.

Installed into each web process by gunicorn.conf.py. The application meets requests only; this is about connections.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import gevent
import orjson
import structlog
from gunicorn.http import errors as faults
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

from app.headers import ALWAYS
from app.times import iso
from app.unread import linger
from core.errors import JelmoreError, MalformedBody
from core.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.settings import Settings

log = structlog.get_logger(__name__)

STATUSES: Final = MappingProxyType(
    {
        faults.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
        faults.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        faults.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
        faults.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    }
)
"""All other faults of a request's head are 400."""
OURS: Final = (faults.InvalidResponseHeader, faults.InvalidResponseHeaderName)
NOT_HTTP: Final = "The request is not valid HTTP."
INTERNAL: Final = "Internal server error"
SEND_SECONDS: Final = 1.0
LATER_SECONDS: Final = 1.0
AT_ONCE_BYTES: Final = 16 * 1024
_write_apart: Final = wsgi.Response.write
HEAD_BYTES: Final = 64 * 1024
"""Of all headers of a request. gunicorn would take a hundred of 8 KiB, and copy them anew for each packet that brings some more."""


class ShortHead(Request):  # type: ignore[misc]  # gunicorn has no types
    """A request as gunicorn reads it, with a bound for its head as a whole."""

    @property
    def max_buffer_headers(self) -> int:
        """Return how many bytes may come before the head ends."""
        return HEAD_BYTES

    @max_buffer_headers.setter
    def max_buffer_headers(self, _: int) -> None:
        """Keep ours: gunicorn's own is the product of its other limits."""


def guard(worker: Any, settings: Settings) -> None:
    """Bound what one connection may cost this process."""
    RequestParser.mesg_class = ShortHead
    worker.timeout_ctx = partial(_patience, settings.body_timeout_seconds, worker.cfg.keepalive)
    worker.handle_request = _bounded(worker.handle_request, settings.follower_timeout_seconds)
    worker.handle_error = _answer_fault
    wsgi.Response.write = _write


def _write(answer: Any, body: bytes) -> None:
    """Send a short answer's head and body at once: gunicorn takes a packet for each, and the client is woken twice."""
    whole = not answer.headers_sent and answer.response_length == len(body) <= AT_ONCE_BYTES
    if not whole or answer.chunked or answer._omits_body:  # noqa: SLF001  (none of its names is meant for others)
        _write_apart(answer, body)
        return
    lines = [*answer.default_headers(), *(f"{name}: {value}\r\n" for name, value in answer.headers), "\r\n"]
    answer.sock.sendall("".join(lines).encode("latin-1") + body)
    answer.headers_sent, answer.sent = True, len(body)


def _patience(first_seconds: float, idle_seconds: float) -> gevent.Timeout:
    """Return what ends the wait for a request's head. A connection that is new has one to send; an old one may be idle."""
    connection = gevent.getcurrent()  # one greenlet serves one connection
    seconds = idle_seconds if getattr(connection, "jelmore_served", False) else first_seconds
    connection.jelmore_served = True
    return gevent.Timeout(seconds, False)  # False: without an exception


def _bounded(handle: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Close on a client that takes no byte of its answer for so long: it would hold its greenlet for ever."""

    def handle_request(listener: Any, request: Any, client: socket.socket, address: Any) -> Any:
        _miss_the_lost(client, seconds)
        if any(name == "UPGRADE" for name, _ in request.headers):
            return handle(listener, request, client, address)  # WebSockets look after themselves
        client.settimeout(seconds)
        try:
            return handle(listener, request, client, address)
        except TimeoutError:
            log.info("a client has stopped taking its answer", address=address[0] if address else None)
            raise StopIteration from None  # how gunicorn says that the connection ends
        finally:
            with suppress(OSError):
                client.settimeout(None)

    return handle_request


def _miss_the_lost(client: socket.socket, seconds: float) -> None:
    """Let the kernel give up on a client whose machine or network is gone: a stream's small heartbeats fill no buffer for hours.

    A moment later than we do: who takes nothing of what waits for him is closed by us, and said to be stalled.
    """
    with suppress(OSError):  # a Unix socket, whose clients are here
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int((seconds + LATER_SECONDS) * 1000))


def _answer_fault(_request: Any, client: socket.socket, address: Any, fault: BaseException) -> None:
    """Answer what is no request, or what gunicorn could not get through, in the one shape."""
    if isinstance(fault, ParseException) and not isinstance(fault, OURS):
        log.info("not HTTP", address=address[0] if address else None, error=type(fault).__name__)
        _send(client, STATUSES.get(type(fault), HTTPStatus.BAD_REQUEST), MalformedBody(NOT_HTTP))
    else:
        log.error("a connection met an error nobody foresaw", exc_info=fault)
        _send(client, HTTPStatus.INTERNAL_SERVER_ERROR, JelmoreError(INTERNAL))


def _send(client: socket.socket, status: HTTPStatus, error: JelmoreError) -> None:
    body = orjson.dumps(
        {"detail": error.detail, "error_code": error.code, "timestamp": iso(datetime.now(UTC))},
    )
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Request-ID": str(uuid7()),
        **ALWAYS,
    }
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    with suppress(OSError):
        client.settimeout(SEND_SECONDS)
        client.sendall("\r\n".join(head).encode("latin-1") + body)
    linger(client)
