"""Many followers of one session in one thread: bare sockets, read when told to. Each must see the same bytes, once.

What is compared are the blocks with an id, as they came: heartbeats, `connected` and goodbyes may differ.
"""

from __future__ import annotations

import resource
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

READ_BYTES: Final = 256 * 1024
AT_ONCE: Final = 100
"""Connections that are being opened; more would be refused or time out."""
DESCRIPTORS: Final = 200
"""Open in a test's process, or a web process, beside the followers."""


def descriptors(wanted: int) -> int:
    """Raise the limit of open files, which children inherit, and return how many followers it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + DESCRIPTORS:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted + DESCRIPTORS), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return min(wanted, soft - DESCRIPTORS)
    return wanted


@dataclass(eq=False)
class One:
    """One follower: what it has seen of the log, over all of its connections."""

    connection: socket.socket | None = None
    status: int = 0
    log: bytearray = field(default_factory=bytearray)
    last_id: int = 0
    words: bytearray = field(default_factory=bytearray)
    """Blocks without an id."""
    is_reading: bool = True
    _buffer: bytearray = field(default_factory=bytearray)

    @property
    def is_open(self) -> bool:
        return self.connection is not None

    def take(self, data: bytes) -> None:
        self._buffer += data
        if not self.status:
            head, there, rest = self._buffer.partition(b"\r\n\r\n")
            if not there:
                return
            self.status = int(head.split(b" ")[1])
            self._buffer = bytearray(rest)
        *blocks, rest = self._buffer.split(b"\n\n")
        self._buffer = bytearray(rest)
        for block in blocks:
            if block.startswith(b"id: "):
                self.log += block + b"\n\n"
                self.last_id = int(block[4 : block.index(b"\n")])
            else:
                self.words += block + b"\n\n"

    def drop(self) -> None:
        """Hang up; half an event that has come is forgotten, as every client does."""
        if self.connection is not None:
            self.connection.close()
        self.connection, self.status = None, 0
        self._buffer.clear()


class Crowd:
    """Followers of one session."""

    def __init__(self, session_id: object, count: int, key: str = "ada-key", *, version: str = "1.1") -> None:
        """`version`: of HTTP. A proxy answers 1.1 in chunks, which are not taken apart here."""
        self.all = [One() for _ in range(count)]
        self._path = f"/api/v1/sessions/{session_id}/stream"
        self._key = key
        self._version = version
        self._selector = selectors.EpollSelector()

    def open(self, port: int, ones: Sequence[One] | None = None, *, buffer_bytes: int | None = None) -> None:
        """Open a stream for each that has none, behind what it has seen."""
        waiting = [one for one in (self.all if ones is None else ones) if not one.is_open]
        for start in range(0, len(waiting), AT_ONCE):
            some = waiting[start : start + AT_ONCE]
            for one in some:
                self._dial(one, port, buffer_bytes)
            self.read(lambda some=some: all(one.status or not one.is_open for one in some))  # type: ignore[misc]

    def _dial(self, one: One, port: int, buffer_bytes: int | None) -> None:
        connection = socket.socket()
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.connect(("127.0.0.1", port))
        resumed = f"Last-Event-ID: {one.last_id}\r\n" if one.last_id else ""
        head = f"GET {self._path} HTTP/{self._version}\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n{resumed}\r\n"
        connection.sendall(head.encode())
        connection.setblocking(False)
        one.connection = connection
        if one.is_reading:
            self._selector.register(connection, selectors.EVENT_READ, one)

    def stall(self, ones: Iterable[One]) -> None:
        """Let these read nothing any more."""
        for one in ones:
            one.is_reading = False
            if one.connection is not None:
                self._selector.unregister(one.connection)

    def go_on(self, ones: Iterable[One]) -> None:
        """Let them read again."""
        for one in ones:
            one.is_reading = True
            if one.connection is not None:
                self._selector.register(one.connection, selectors.EVENT_READ, one)

    def read(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Read on all streams until something is so."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.state()}"
            for key, _ in self._selector.select(0.05):
                self._hear(key.data)

    def _hear(self, one: One) -> None:
        assert one.connection is not None
        try:
            data = one.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            one.take(data)
        else:
            self.drop([one])

    def drop(self, ones: Iterable[One]) -> None:
        """Hang up."""
        for one in ones:
            if one.connection is not None and one.is_reading:
                self._selector.unregister(one.connection)
            one.drop()

    def reached(self, seq: int, ones: Sequence[One] | None = None) -> Callable[[], bool]:
        """Return whether all have seen this entry, as a question."""
        return lambda: all(one.last_id >= seq for one in (self.all if ones is None else ones))

    def are_gone(self) -> bool:
        """Whether every stream is closed."""
        return not any(one.is_open for one in self.all)

    def unfinished(self) -> list[One]:
        """Return those who have not seen the end."""
        return [one for one in self.all if b"\nevent: terminated\n" not in one.log]

    def state(self) -> str:
        """Say where they are."""
        seen = sorted(one.last_id for one in self.all)
        return f"{sum(one.is_open for one in self.all)} open, entries {seen[0]} to {seen[-1]}"

    def logs(self) -> set[bytes]:
        """Return what was seen: one log, if everything is well."""
        return {bytes(one.log) for one in self.all}

    def close(self) -> None:
        """Hang up on everybody."""
        self.drop(self.all)
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def ids(log: bytes) -> Iterator[int]:
    """Yield the ids of a log that was seen."""
    for block in log.split(b"\n\n"):
        if block:
            yield int(block[4 : block.index(b"\n")])
