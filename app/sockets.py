"""An open WebSocket: how it is read, written and closed. What is said over it is not known here, nor how it was opened.

wsproto reads what comes, in the request's greenlet. Every byte that goes out, pongs and the close too, goes through one queue that
one greenlet at a time empties (`app.outgoing`): nobody writes into the middle of a frame.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.socket import wait_read
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError

from app.outgoing import Gone, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsproto import WSConnection
    from wsproto.events import Event

MESSAGE_BYTES: Final = 64 * 1024
READ_BYTES: Final = 16 * 1024
"""Read at once. As tiny frames it is what keeps the loop busy for some 20 ms, and not for longer."""
SEND_BUFFER_BYTES: Final = 128 * 1024
"""What the kernel takes ahead of a slow reader: it is memory, and what a ping has to wait behind."""
LINGER_SECONDS: Final = 5.0
"""How long the other side has for its half of the closing. Closed at once, the last bytes may never arrive."""

NORMAL: Final = 1000
TOO_LARGE: Final = 1009
FAILED: Final = 1011
RESTARTING: Final = 1012
KEY_OVER: Final = 4401
NOT_VISIBLE: Final = 4404
SILENT: Final = 4408
TOO_MANY: Final = 4429


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may do, and how long it may do nothing. `rate`: messages and control frames a second."""

    ping_seconds: float
    silent_seconds: float
    write_seconds: float
    rate: float
    burst: float


class Socket:
    """An open WebSocket: whole messages in, whole frames out."""

    def __init__(self, wire: WSConnection, connection: Any, bounds: Bounds, now: Callable[[], float]) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._wire = wire
        self._connection = connection
        self._bounds = bounds
        self._now = now
        self._out = Outgoing(connection, bounds.write_seconds, now)
        self._parts: list[str | bytes] = []
        self._size = 0
        self._heard_at = self._filled_at = now()
        self._next_ping = self._heard_at + bounds.ping_seconds
        self._tokens = bounds.burst
        self.closed: int | None = None
        """The code of the close that was sent, or is waiting to be."""
        self._closed_at = 0.0
        self._theirs: CloseConnection | None = None

    # Out.

    def send(self, frames: bytes) -> None:
        """Send whole frames behind all that waits. Raises Gone once the socket is closed, from whichever side."""
        if self.closed is not None:
            raise Gone
        self._out.put(frames)

    def wait_room(self, beyond: int = 0) -> None:
        """Wait until the other side has taken almost all there is, if that is more than so much. Raises Gone."""
        if self._out.size > beyond:
            self._out.wait_room()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye behind all that waits. Only the first one counts."""
        if self.closed is not None:
            return
        self.closed, self._closed_at = code, self._now()
        with suppress(Gone, LocalProtocolError):  # the other side has closed first
            self._out.put(bytes(self._wire.send(CloseConnection(code, reason))))

    def cut(self) -> None:
        """End it from outside, whatever it is doing."""
        self._out.fail()

    # In.

    def messages(self) -> Iterator[str | bytes]:
        """Yield whole messages until the socket is closed: by the other side, by us, or because nobody is there."""
        while data := self._read():
            self._wire.receive_data(data)
            for event in self._wire.events():
                if isinstance(event, CloseConnection):
                    self._theirs = event
                    return
                self._count(event)
                message = self._taken(event)
                if message is not None and self.closed is None:
                    yield message
                    self._heard_at = self._now()  # meanwhile nobody listened
            gevent.sleep(0)  # who sends without a pause delays nobody but himself

    def finish(self) -> None:
        """Complete the closing, whoever began it: what waits is sent, and nothing more is read."""
        if self._theirs is not None:
            self._closed_at = self._closed_at or self._now()
            with suppress(Gone, LocalProtocolError):  # ours was sent before theirs came
                self._out.put(bytes(self._wire.send(self._theirs.response())))
        self._out.drain()
        if self._wire.state is not ConnectionState.CLOSED:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
            while self._ready(self._farewell() - self._now()) and self._received() != b"":
                gevent.sleep(0)  # thrown away: closing with bytes unread takes back what was sent last
        self._out.stop()

    @property
    def ended_by(self) -> str:
        """Return the code of our close, or who has ended it else."""
        if self.closed is not None:
            return str(self.closed)
        return "client" if self._theirs is not None else "lost"

    def _farewell(self) -> float:
        """Return when the other side has had enough time to close as well."""
        return max(self._closed_at, self._out.moved_at) + LINGER_SECONDS

    def _read(self) -> bytes:
        """Return what comes next; nothing if nothing will. Pings meanwhile, and closes on the silent."""
        while True:
            now = self._now()
            if self.closed is None:
                self._keep_alive(now)
                left = self._next_ping - now
            else:
                left = 1.0 if self._out.size else self._farewell() - now
            if left <= 0 and self.closed is not None:
                return b""
            if self._ready(left) and (data := self._received()) is not None:
                return data

    def _ready(self, seconds: float) -> bool:
        try:
            wait_read(self._connection.fileno(), max(0.0, seconds))
        except TimeoutError:
            return False
        return True

    def _received(self) -> bytes | None:
        """Return what has come; None if nothing has after all, as happens: the loop may have heard of former news."""
        try:
            data: bytes = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        self._heard_at = self._now()
        return data

    def _keep_alive(self, now: float) -> None:
        if now - max(self._heard_at, self._out.moved_at) > self._bounds.silent_seconds:
            self.close(SILENT, "silent")
        elif now >= self._next_ping:
            self._next_ping = now + self._bounds.ping_seconds
            self._out.put_if_room(bytes(self._wire.send(Ping())))

    def _count(self, event: Event) -> None:
        """Close on who sends too much: of messages, frames or pings; what it costs to read them is the same."""
        if not getattr(event, "frame_finished", True):
            return
        now = self._now()
        refill = (now - self._filled_at) * self._bounds.rate
        self._tokens = min(self._bounds.burst, self._tokens + refill) - 1
        self._filled_at = now
        if self._tokens < 0:
            self.close(TOO_MANY, "too many messages")

    def _taken(self, event: Event) -> str | bytes | None:
        """Return the message that an event completes."""
        if isinstance(event, Ping) and self.closed is None:
            self._out.put_if_room(bytes(self._wire.send(event.response())))
        if not isinstance(event, TextMessage | BytesMessage) or self.closed is not None:
            return None
        part = event.data if isinstance(event, TextMessage) else bytes(event.data)
        self._parts.append(part)
        self._size += len(part.encode() if isinstance(part, str) else part)
        if self._size > MESSAGE_BYTES:
            self.close(TOO_LARGE, f"a message has at most {MESSAGE_BYTES} bytes")
            return None
        if not event.message_finished:
            return None
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0][:0].join(parts)  # type: ignore[arg-type]  # all of one kind: wsproto sees to it
