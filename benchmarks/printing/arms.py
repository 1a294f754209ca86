"""Who runs a program and shows what it prints: Jelmore, the afternoon's work, and websocketd, which runs one a connection."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from benchmarks import debian
from benchmarks.client import Client
from benchmarks.inside import in_threads
from benchmarks.measures import CONNECTIONS
from benchmarks.printing.readers import EventReader, FrameReader, Reader
from benchmarks.samples import Void
from jelmore.embedded.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.arms import Arm
    from benchmarks.processes import Running

WEBSOCKETD: Final = "websocketd"
FILES: Final = ("bin/websocketd",)
LISTENS_SECONDS: Final = 0.5


class Printer(Protocol):
    """One of them."""

    @property
    def name(self) -> str:
        """Return what it is called."""

    def opened(self, command: Sequence[str], count: int) -> AbstractContextManager[list[Reader]]:
        """Run so many of a command, and read each."""


class Sessions:
    """Jelmore, or the afternoon's work: sessions and their streams."""

    def __init__(self, arm: Arm) -> None:
        self.name = arm.name
        self._arm = arm

    @contextmanager
    def opened(self, command: Sequence[str], count: int) -> Iterator[list[Reader]]:
        """Create so many sessions, and follow each at once: the afternoon's work replays nothing."""
        query, readers = "exec " + shlex.join(command), list[Reader]()

        def lane(number: int) -> None:
            client = Client(self._arm.port)
            readers.extend(EventReader(self._arm.port, client.create(query)) for _ in range(number, count, CONNECTIONS))
            client.close()

        in_threads(lane)
        if len(readers) < count:
            raise Void(f"only {len(readers)} of {count} sessions could be created")
        yield readers


class Websocketd:
    """A process for each connection, which is told every line."""

    name = WEBSOCKETD

    def __init__(self, running: Running, program: str) -> None:
        self._running = running
        self._program = program

    @contextmanager
    def opened(self, command: Sequence[str], count: int) -> Iterator[list[Reader]]:
        """Connect so many times."""
        port = free_port()
        listen = [self._program, f"--port={port}", "--address=127.0.0.1", "--loglevel=error", *command]
        process = self._running.start(WEBSOCKETD, listen, {"PATH": "/usr/bin:/bin"})
        try:
            time.sleep(LISTENS_SECONDS)
            yield [FrameReader(port) for _ in range(count)]
        finally:
            self._running.end(process)


def websocketd(running: Running) -> Websocketd | None:
    """Return it; None, and a word, where it cannot be had."""
    found = debian.had(FILES, ("websocketd",))
    if found is None:
        print("websocketd cannot be had; that arm is left out.", file=sys.stderr)
        return None
    return Websocketd(running, str(found[0]))
