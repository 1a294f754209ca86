"""What goes out of one socket: a queue of bytes that one greenlet at a time writes, in the order they were put.

Whoever puts something does not wait: what the kernel takes at once is gone at once, for the rest there is a greenlet. Whoever has
much to send waits for room before it fetches more.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event
from gevent.socket import wait_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent import Greenlet

ROOM_BYTES: Final = 64 * 1024
"""With less than this waiting there is room for more."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""More than a full look at a log and all answers that may wait behind it."""


class Gone(Exception):
    """Nobody is there any more to take it."""


class Outgoing:
    """A socket's way out. The socket must not be written to by anybody else; it is set to wait for nothing."""

    def __init__(self, connection: Any, patience_seconds: float, now: Callable[[], float]) -> None:
        self._connection = connection
        self._connection.settimeout(0)
        self._patience = patience_seconds
        self._now = now
        self._waiting: deque[memoryview] = deque()
        self._writer: Greenlet[None] | None = None
        self._room = Event()
        self._room.set()
        self._gone = False
        self.size = 0
        """Bytes that wait."""
        self.moved_at = now()
        """When the other side has last made room for bytes that had to wait for it: it takes them, so it is alive."""

    def put(self, data: bytes) -> None:
        """Send bytes behind all that waits. Raises Gone."""
        if self.size + len(data) > MOST_BYTES and self.size:
            self.fail()
        if self._gone:
            raise Gone
        self._waiting.append(memoryview(data))
        self.size += len(data)
        if self._writer is None:
            self._write()
            if self._waiting:
                self._writer = gevent.spawn(self._write_on)
        if self.size > ROOM_BYTES:
            self._room.clear()

    def put_if_room(self, data: bytes) -> None:
        """Send what is not missed: a ping, the answer to one."""
        if self.size <= ROOM_BYTES and not self._gone:
            self.put(data)

    def wait_room(self) -> None:
        """Wait until there is room. Raises Gone: at the latest when nothing was taken for as long as there is patience."""
        self._room.wait()
        if self._gone:
            raise Gone

    def drain(self) -> None:
        """Wait until everything is sent, or nothing more will be."""
        while self.size and not self._gone:
            gevent.sleep(0.01)

    def fail(self) -> None:
        """Give up: whoever waits, here or in a read, is told at once."""
        self._gone = True
        self._waiting.clear()
        self.size = 0
        self._room.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Give up, and let go of the socket: its descriptor may be another one's in a moment."""
        self.fail()
        if self._writer is not None:
            self._writer.kill()

    def _write(self) -> None:
        """Write what the kernel takes."""
        while self._waiting:
            head = self._waiting[0]
            try:
                sent = self._connection.send(head)
            except BlockingIOError:
                return
            except OSError:
                self.fail()
                return
            self.size -= sent
            if sent == len(head):
                self._waiting.popleft()
            else:
                self._waiting[0] = head[sent:]
        if self.size <= ROOM_BYTES:
            self._room.set()

    def _write_on(self) -> None:
        try:
            while self._waiting:
                wait_write(self._connection.fileno(), self._patience)
                self._write()
                self.moved_at = self._now()
        except (OSError, ValueError):  # nothing was taken for too long, or it is closed
            self.fail()
        finally:
            self._writer = None
