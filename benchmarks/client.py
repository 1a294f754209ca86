"""A client with little of its own to wait for: JSON requests over one connection, and a stream read from a bare socket.

http.client reads a chunked answer in pieces of 8 KiB: it would be what a flood measures. So `follow` takes the chunks apart itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "bench-key"
TIMEOUT_SECONDS: Final = 30
RECEIVE_BYTES: Final = 262144
SESSIONS: Final = "/api/v1/sessions"
HEADERS: Final = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


class Client:
    """One keep-alive connection to an arm."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return the answer's JSON; anything but a 2xx is an error."""
        self._connection.request(method, SESSIONS + path, json.dumps(body) if body is not None else None, HEADERS)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]!r}")
        return json.loads(text)

    def create(self, query: str) -> str:
        """Create a session; return its id."""
        session_id: str = self.ask("POST", "", {"query": query})["session_id"]
        return session_id

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event, and the monotonic nanoseconds at which its end was read."""

    name: str
    raw: bytes
    at: int

    @property
    def content(self) -> str:
        """What an output event carries."""
        text: str = json.loads(self.raw)["content"]
        return text


def follow(port: int, session_id: str) -> Iterator[Event]:
    """Yield a session's events, as they come, until the stream ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        path = f"{SESSIONS}/{session_id}/stream"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        yield from events_of(_received(connection))


def events_of(received: Iterator[tuple[bytes, int]]) -> Iterator[Event]:
    """Yield the events of an answer, from its bytes and when each were read."""
    yield from _events(_payload(received))


def _events(pieces: Iterator[tuple[bytes, int]]) -> Iterator[Event]:
    name, rest = "", bytearray()
    for piece, at in pieces:
        rest += piece
        if b"\n" not in piece:
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield Event(name, line[6:], at)


def _received(connection: socket.socket) -> Iterator[tuple[bytes, int]]:
    while data := connection.recv(RECEIVE_BYTES):
        yield data, time.monotonic_ns()


def _payload(received: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Yield the body of an answer, without the chunks' frames if it has any."""
    head = b""
    at = 0
    for data, at in received:  # noqa: B007  (the last one is used)
        head += data
        if b"\r\n\r\n" in head:
            break
    else:
        raise ConnectionError("hung up before it answered")
    status, _, first = head.partition(b"\r\n\r\n")
    if b" 200 " not in status.split(b"\r\n")[0]:
        raise RuntimeError(f"the stream was answered {status[:60]!r}")
    chunks = _Chunks() if b"transfer-encoding: chunked" in status.lower() else None
    for data, when in chain([(first, at)], received):
        piece = chunks.take(data) if chunks else data
        if piece:
            yield piece, when
        if chunks and chunks.ended:
            return


class _Chunks:
    """Takes HTTP/1.1 chunks apart, wherever they were cut on their way."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0  # of the present chunk, with the two bytes behind it
        self.ended = False

    def take(self, received: bytes) -> bytes:
        """Return what of the payload has come."""
        self._buffer += received
        payload = bytearray()
        while self._buffer and not self.ended and (self._left or self._begin()):
            part = self._buffer[: self._left]
            del self._buffer[: len(part)]
            self._left -= len(part)
            payload += part[: len(part) - min(len(part), 2 - min(self._left, 2))]
        return bytes(payload)

    def _begin(self) -> bool:
        """Read the next chunk's length; False while it has not come."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        size = int(self._buffer[:end].split(b";")[0], 16)
        del self._buffer[: end + 2]
        self._left = size + 2
        self.ended = size == 0
        return not self.ended
