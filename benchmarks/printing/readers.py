"""Many streams read by one loop, which notes what came when; what that means is found out when the clock has stopped."""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, Final

from benchmarks.client import KEY, SESSIONS, TIMEOUT_SECONDS, events_of
from benchmarks.samples import Void

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECEIVE_BYTES: Final = 262144
NO_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
"""Of a handshake: it need not be secret, and here not random."""
TEXT, CLOSE = 1, 8
LONG, LONGER = 126, 127

Line = tuple[str, int]
"""A line, and the monotonic nanoseconds at which its end was read."""


class Reader:
    """One stream: what came, and when."""

    def __init__(self, port: int, head: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(head.encode())
        self.pieces: list[tuple[bytes, int]] = []

    def receive(self) -> bool:
        """Take what is there; return whether more may come."""
        data = self.socket.recv(RECEIVE_BYTES)
        self.pieces.append((data, time.monotonic_ns()))
        return bool(data)

    def lines(self) -> list[Line]:
        """Return what was printed."""
        raise NotImplementedError


class EventReader(Reader):
    """A session's stream of Server-Sent Events."""

    def __init__(self, port: int, session_id: str) -> None:
        path = f"{SESSIONS}/{session_id}/stream"
        super().__init__(port, f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n\r\n")

    def lines(self) -> list[Line]:
        """Return what was printed. Raises Void if the end is missing."""
        events = list(events_of(iter(self.pieces)))
        if not events or events[-1].name != "terminated":
            raise Void(f"a stream ended with {events[-1].name if events else 'nothing'}")
        found: list[Line] = []
        rest = ""
        for event in events:
            if event.name == "output":  # which may end, and begin, within a line
                *whole, rest = (rest + event.content).split("\n")
                found += [(line, event.at) for line in whole]
        return found


class FrameReader(Reader):
    """A WebSocket on which every line is a message, as websocketd sends them."""

    def __init__(self, port: int) -> None:
        wanted = (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NO_KEY}"
        )
        super().__init__(port, f"GET / HTTP/1.1\r\nHost: bench\r\n{wanted}\r\n\r\n")

    def lines(self) -> list[Line]:
        """Return the messages' texts."""
        return [(text.decode(), at) for text, at in _messages(self.pieces)]


def _messages(pieces: Sequence[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    rest = b""
    began = False
    for piece, at in pieces:
        rest += piece
        if not began:
            _, end, behind = rest.partition(b"\r\n\r\n")
            if not end:
                continue
            began, rest = True, behind
        place = 0
        while (frame := _frame(rest, place)) is not None:
            opcode, start, place = frame
            if opcode == TEXT:
                yield rest[start:place], at
            elif opcode == CLOSE:
                return
        rest = rest[place:]


def _frame(data: bytes, place: int) -> tuple[int, int, int] | None:
    """Return a whole frame's opcode, and where its payload begins and ends; None if it is not all there. A server masks none."""
    if len(data) < place + 2:
        return None
    length, start = data[place + 1] & 0x7F, place + 2
    more = {LONG: 2, LONGER: 8}.get(length, 0)
    if more:
        length, start = int.from_bytes(data[start : start + more], "big"), start + more
    return (data[place] & 0x0F, start, start + length) if len(data) >= start + length else None


def read_all(readers: Sequence[Reader], seconds: float) -> None:
    """Read all streams to their ends. Raises Void if that takes too long."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        try:
            while selector.get_map():
                if time.monotonic() > deadline:
                    raise Void(f"{len(selector.get_map())} of {len(readers)} streams had no end within {seconds:.0f} s")
                for key, _ in selector.select(timeout=1.0):
                    if not key.data.receive():
                        selector.unregister(key.fileobj)
        finally:
            for reader in readers:
                reader.socket.close()
