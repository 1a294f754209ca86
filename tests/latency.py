"""How long a session takes to answer: from the request that brings an input to the event with what the program printed."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.programs.shell import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import Client

FOR_EVER: Final = 3600.0


class Neighbour:
    """A session that answers, and a stream of it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.session_id = client.create(ANSWERS)
        self._stream = client.follow(self.session_id, "?events=output", limit_seconds=FOR_EVER)
        self._events = iter(self._stream)
        self._asked = 0
        self._heard = b""
        self._hear(b"ready\n")

    def ask(self) -> float:
        """Return how many seconds one answer took. A wrong one fails."""
        self._asked += 1
        began = time.monotonic()
        assert self._client.input(self.session_id, f"question {self._asked}").status == 200
        self._hear(b"got question %d\n" % self._asked)
        return time.monotonic() - began

    def median(self, count: int) -> float:
        """Return the median of so many answers, in seconds."""
        return statistics.median(self.ask() for _ in range(count))

    def _hear(self, wanted: bytes) -> None:
        while not self._heard.endswith(wanted):
            self._heard += next(event.content for event in self._events if event.event == "output")

    def close(self) -> None:
        """End it."""
        self._stream.close()
        self._client.delete(self.session_id, "?wait=0")


@contextmanager
def neighbour(client: Client) -> Iterator[Neighbour]:
    """Hand out a session that answers; it is ended afterwards."""
    answering = Neighbour(client)
    try:
        yield answering
    finally:
        answering.close()
