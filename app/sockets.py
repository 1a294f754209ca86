"""An open WebSocket: how it is read, written and closed. What is said over it is not known here, nor how it was opened.

It is a follower of the relay's: the hub's loop reads and writes it, and no greenlet waits for it. wsproto reads what comes.
Every byte that goes out, pongs and the close too, goes through one queue: nobody writes into the middle of a frame.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from gevent.event import Event
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping
from wsproto.utilities import LocalProtocolError

from app.incoming import MESSAGE_BYTES, Incoming, TooLarge
from core import metrics
from core.errors import InvalidApiKey
from streams.followers import Follower
from streams.sending import LINGER_SECONDS

if TYPE_CHECKING:
    from uuid import UUID

    from wsproto import WSConnection
    from wsproto.events import Event as Said

    from core.errors import JelmoreError
    from streams.entries import EntryKind
    from streams.relay import Hub
    from streams.ring import Wish

ROOM_BYTES: Final = 64 * 1024
"""With less than this waiting there is room for more."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""More than an entry and all answers that may wait behind it."""

NORMAL: Final = 1000
TOO_LARGE: Final = 1009
FAILED: Final = 1011
RESTARTING: Final = 1012
KEY_OVER: Final = 4401
NOT_VISIBLE: Final = 4404
SILENT: Final = 4408
TOO_MANY: Final = 4429
OVER: Final = "the key is revoked or has expired"


class Gone(Exception):
    """Nobody is there any more to take it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may do, and how long it may do nothing. `rate`: messages and control frames a second."""

    ping_seconds: float
    silent_seconds: float
    rate: float
    burst: float


class Talk(Protocol):
    """Who hears what is said. Called in the loop: nothing there may wait."""

    def take(self, message: str | bytes) -> None:
        """Hear a whole message."""

    def hung_up(self) -> None:
        """Nothing more is said: `Socket.answer_close` completes the closing when all is answered."""

    def ended(self) -> None:
        """All of the log is sent: `Socket.close` when all is answered."""

    def refuse(self, fault: JelmoreError) -> None:
        """Say what is wrong."""

    def gone(self) -> None:
        """Nobody is there any more."""


class Socket(Follower):
    """An open WebSocket: whole messages in, whole frames out."""

    __slots__ = (
        *("_bounds", "_closed_at", "_has_failed", "_heard_at", "_incoming", "_is_paused", "_next_ping", "_room"),
        *("_theirs", "_wire", "closed", "talk"),
    )

    transport = "websocket"

    def __init__(self, hub: Hub, session_id: UUID, wish: Wish, fd: int, wire: WSConnection, bounds: Bounds) -> None:
        super().__init__(hub, session_id, wish, fd)
        now = time.monotonic()
        self._wire = wire
        self._bounds = bounds
        self._incoming = Incoming(bounds.rate, bounds.burst)
        self._heard_at = now
        self._next_ping = now + bounds.ping_seconds
        self._is_paused = False
        self._room: Event | None = None
        self.closed: int | None = None
        """The code of the close that was sent, or is waiting to be."""
        self._closed_at = 0.0
        self._theirs: CloseConnection | None = None
        self._has_failed = False
        """Whether the other side has sent what is no frame: no goodbye of its own is to be expected."""
        self.talk: Talk | None = None

    # Out.

    def send(self, frames: bytes) -> None:
        """Send whole frames behind all that waits. Raises Gone once the socket is closed, from whichever side."""
        if self.size and self.size + len(frames) > MOST_BYTES:
            self.lost("stalled")
        if self.closed is not None or not self.is_open:
            raise Gone
        self.write(frames)

    def wait_room(self, beyond: int) -> None:
        """Wait until the other side has taken almost all there is, if that is more than so much. Raises Gone."""
        if self.size > beyond:
            self._room = self._room or Event()
            self._room.clear()
            self._room.wait()
        if not self.is_open:
            raise Gone

    def turn(self, kinds: frozenset[EntryKind] | None, after: int | None) -> None:
        """Send something else from here on: other kinds (None: all), and from elsewhere, if `after` says so."""
        if self.group is not None:
            self.group.leave(self)
        self.wish = replace(self.wish, kinds=kinds)
        if after is not None:
            self.cursor, self.skips, self.ends = after, False, False
            self.ahead, self.asking = (), None
        self.hub.delivery.go_on(self)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye behind all that waits. Only the first one counts."""
        if self.closed is not None or not self.is_open:
            return
        self.hub.part(self)
        self.closed, self._closed_at = code, time.monotonic()
        self.hub.wake_at(self, self._closed_at + LINGER_SECONDS)
        with suppress(LocalProtocolError):  # the other side has closed first
            self.write(bytes(self._wire.send(CloseConnection(code, reason))))

    def answer_close(self) -> None:
        """Complete the closing that the other side began, behind all that waits."""
        if self._theirs is not None and self.is_open:
            self._closed_at = self._closed_at or time.monotonic()
            with suppress(LocalProtocolError):  # ours was sent before theirs came
                self.write(bytes(self._wire.send(self._theirs.response())))
            self._end_if_over()

    def _write_if_room(self, data: bytes) -> None:
        """Send what is not missed: a ping, the answer to one."""
        if self.size <= ROOM_BYTES:
            self.write(data)

    def moved(self) -> None:
        """Let in whoever waits for room."""
        if self._room is not None and (self.size <= ROOM_BYTES or not self.is_open):
            self._room.set()

    def drained(self) -> None:
        """Go on behind what has waited."""
        self.moved()
        self._end_if_over()
        self.hub.delivery.go_on(self)

    # In.

    def received(self, data: bytes) -> None:
        """Take what has come apart, and pass on what it says."""
        if self._theirs is not None:
            return
        self._heard_at = time.monotonic()
        self._wire.receive_data(data)
        for said in self._wire.events():
            if isinstance(said, CloseConnection):
                self._hang_up(said)
                return
            if self.closed is None:
                self._take(said)

    def _take(self, said: Said) -> None:
        if self._incoming.is_too_much(said):
            self.close(TOO_MANY, "too many messages")
            return
        if isinstance(said, Ping):
            self._write_if_room(bytes(self._wire.send(said.response())))
        try:
            message = self._incoming.completed(said)
        except TooLarge:
            self.close(TOO_LARGE, f"a message has at most {MESSAGE_BYTES} bytes")
            return
        if message is not None and self.talk is not None:
            self.talk.take(message)

    def pause(self, *, paused: bool) -> None:
        """Leave what is said with the kernel for a while, or hear it again."""
        if paused is not self._is_paused and self._theirs is None:
            self._is_paused = paused
            self._heard_at = time.monotonic()
            self.listen(wanted=not paused)

    def _hang_up(self, theirs: CloseConnection) -> None:
        self._theirs = theirs
        self._has_failed = self._wire.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)
        self.listen(wanted=self._has_failed)  # what is left unread would take our last bytes with it
        if self.closed is not None:
            self._end_if_over()
            return
        self.hub.part(self)
        if self.talk is not None:
            self.talk.hung_up()

    # Beside the log.

    def at_end(self) -> None:
        """Close behind the log's last entry, when what was asked before is answered."""
        self.hub.part(self)
        if self.talk is not None:
            self.talk.ended()

    def leave(self) -> None:
        """Say that another process goes on."""
        self.close(RESTARTING)

    def refuse(self, fault: JelmoreError) -> None:
        """Say why it cannot go on."""
        if isinstance(fault, InvalidApiKey):
            self.close(KEY_OVER, OVER)
            return
        if self.talk is not None:
            self.talk.refuse(fault)
        self.close(FAILED, fault.code)

    def tick(self, now: float) -> float:
        """Ping; close on the silent, and on who takes nothing."""
        if self.size and now >= self.moved_at + self.hub.patience:
            self.lost("stalled")
        elif self.closed is not None or self._theirs is not None:
            over_at = max(self._closed_at or now, self.moved_at) + LINGER_SECONDS
            if now >= over_at and not self.size:
                self.lost("lost")
            return max(over_at, now + 1)
        elif not self._is_paused and now - max(self._heard_at, self.moved_at) > self._bounds.silent_seconds:
            self.close(SILENT, "silent")
        elif now >= self._next_ping:
            self._next_ping = now + self._bounds.ping_seconds
            self._write_if_room(bytes(self._wire.send(Ping())))
        return min(self._next_ping, now + self.hub.patience)

    # The end.

    def _end_if_over(self) -> None:
        if self.size or not self.is_open:
            return
        if self._wire.state is ConnectionState.CLOSED:
            self.lost("lost")
        elif self._has_failed and self._wire.state is ConnectionState.LOCAL_CLOSING:
            self.half_close()

    def lost(self, why: str) -> None:
        """Close at once: both sides have said goodbye, or nobody is there any more."""
        if not self.is_open:
            return
        code = self._code(why)
        self.ended_by = code
        talk, self.talk = self.talk, None
        super().lost(why)
        metrics.WEBSOCKETS_CLOSED.labels(code).inc()
        self.moved()
        if talk is not None:
            talk.gone()

    def _code(self, why: str) -> str:
        """Return the code of our close, or who has ended it else."""
        if self.closed is not None:
            return str(self.closed)
        if self._theirs is not None:
            return "client"
        return "lost" if why == "client" else why
