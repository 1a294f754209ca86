"""A socket that the hub writes: taken from the web server, never waited for, with nobody's greenlet behind it.

What the kernel does not take at once waits here, and the loop says when there is room. There is one way out: whoever has bytes
for the other side gives them to `write`, or, in the midst of a fan-out, to `push` of an outlet that holds nothing back.
"""

from __future__ import annotations

import _socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import gevent
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

READ: Final = 1
WRITE: Final = 2
READ_BYTES: Final = 16 * 1024
"""Read at once: who sends without a pause delays nobody but himself."""
SEND_BUFFER_BYTES: Final = 128 * 1024
"""What the kernel takes ahead of a slow reader: it is memory, and what a heartbeat has to wait behind."""


class Outlet:
    """One socket. Those who inherit are told what happens to it, in the loop: nothing there may wait."""

    __slots__ = ("_loop", "_reading", "_socket", "_waiting", "_writing", "moved_at", "push", "size", "written")

    def __init__(self, fd: int) -> None:
        self._socket: Any = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        with suppress(OSError):  # neither matters but for speed
            self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.push: Callable[[bytes | memoryview], int] = self._socket.send
        self._loop: Any = gevent.get_hub().loop
        self._waiting: deque[memoryview] | None = None
        self._writing: Any = None
        self._reading: Any = self._loop.io(fd, READ)
        self.size = 0
        """Bytes that wait."""
        self.written = 0
        """Bytes that the kernel has taken."""
        self.moved_at = time.monotonic()
        """When the other side has last made room for bytes that had to wait."""
        self._reading.start(self._on_readable)

    # What those who inherit are told.

    def received(self, data: bytes) -> None:
        """Take what the other side sends."""

    def drained(self) -> None:
        """Go on: all that waited is gone."""

    def moved(self) -> None:
        """Take note that there is some room."""

    def lost(self, why: str) -> None:
        """Take note that nobody is there any more."""
        raise NotImplementedError

    # Out.

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes behind all that waits."""
        if self._socket is None:
            return
        if self._waiting is None:
            try:
                taken = self.push(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self.lost("client")
                return
            self.written += taken
            if taken == len(data):
                return
            data = memoryview(data)[taken:]
        self.hold(data)

    def hold(self, data: bytes | memoryview) -> None:
        """Keep bytes that the kernel has not taken, until it does."""
        if self._waiting is None:
            self._waiting = deque()
            self.moved_at = time.monotonic()
            self._writing = self._loop.io(self._socket.fileno(), WRITE)
            self._writing.start(self._on_writable)
        self._waiting.append(memoryview(data))
        self.size += len(data)

    def _on_writable(self) -> None:
        try:
            if self._flushed():
                self.drained()
            elif self._socket is not None:
                self.moved()
        except Exception:  # one reader's trouble is not the others'
            log.exception("a stream met an error nobody foresaw")
            self.lost("fault")

    def _flushed(self) -> bool:
        """Send on; return whether all is gone."""
        while self._waiting:
            head = self._waiting[0]
            try:
                taken = self.push(head)
            except BlockingIOError:
                return False
            except OSError:
                self.lost("client")
                return False
            self.written += taken
            self.size -= taken
            self.moved_at = time.monotonic()
            if taken == len(head):
                self._waiting.popleft()
            else:
                self._waiting[0] = head[taken:]
        self._stop_writing()
        return True

    def _stop_writing(self) -> None:
        self._waiting = None
        self.size = 0
        if self._writing is not None:
            self._writing.stop()
            self._writing.close()
            self._writing = None

    # In.

    def listen(self, *, wanted: bool) -> None:
        """Read what comes, or leave it with the kernel for now."""
        if self._reading is None:
            return
        self._reading.stop()
        if wanted:
            self._reading.start(self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if data:
                self.received(data)
            else:
                self.lost("client")
        except Exception:  # as above
            log.exception("a stream met an error nobody foresaw")
            self.lost("fault")

    # The end.

    @property
    def is_open(self) -> bool:
        """Whether the socket is still ours."""
        return self._socket is not None

    def half_close(self) -> None:
        """Say that nothing follows. Closed at once, with bytes unread, the last ones may never arrive."""
        with suppress(OSError):
            self._socket.shutdown(_socket.SHUT_WR)

    def release(self) -> None:
        """Close the socket. What waited is thrown away."""
        if self._socket is None:
            return
        self._stop_writing()
        self._reading.stop()
        self._reading.close()  # before the descriptor becomes another one's
        self._reading = None
        self._socket.close()
        self._socket = None
