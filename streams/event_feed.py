"""Live readers of events in one web process: one look at the outbox for all of them, a short memory of what was found, and
cursors into it.

Who is behind that memory reads PostgreSQL for itself, a few at a time. As in `streams.relay` a reader is a cursor, never a queue:
what its socket does not take is held, a piece at most, and it goes on from its cursor when that is gone.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final

import gevent
import orjson
import structlog
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from core import metrics
from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from models import feed
from models.events import BEGINNING
from streams import sse
from streams.ring import CHUNK_BYTES
from streams.sending import OverEvents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row

    from models.database import Database
    from models.events import Position
    from models.feed import Wanted
    from streams.relay import Hub

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.25
ROWS: Final = 200
"""Read at once: whatever they hold, that is some megabytes."""
KEPT_BYTES: Final = 1024 * 1024
READS_AT_ONCE: Final = 4
TURN: Final = 64


@dataclass(frozen=True, slots=True)
class Told:
    """An event, as it is sent."""

    place: Position
    row: Row[Any]
    data: bytes


class Feed:
    """What is new, for all who follow events here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: deque[Told] = deque()
        self._kept_bytes = 0
        self._since = self._until = BEGINNING
        """What is kept is all that is behind `_since`, up to `_until`."""
        self._tails: set[EventTail] = set()
        self._wanted = Event()
        self._reads = BoundedSemaphore(READS_AT_ONCE)

    def open(self) -> None:
        """Begin to look, whenever somebody follows."""
        spawn_vital("event feed", self._keep_looking)

    def admit(self, tail: EventTail, first: bytes) -> None:
        """Let a reader begin where it stands, with what is to be sent before."""
        self._tails.add(tail)
        metrics.FOLLOWERS.labels(tail.transport).inc()
        tail.hub.adopt(tail, first)
        self._wanted.set()
        self.go_on(tail)

    def forget(self, tail: EventTail) -> None:
        """Take note that a reader is gone."""
        if tail in self._tails:
            self._tails.discard(tail)
            metrics.FOLLOWERS.labels(tail.transport).dec()

    # New ones.

    def _keep_looking(self) -> None:
        while True:
            if not self._tails:  # nobody: what comes meanwhile is read by who comes next
                self._wanted.clear()
                self._wanted.wait()
                self._start_anew()
            try:
                more = self._look()
            except DatabaseUnavailable:
                log.debug("no look at events: PostgreSQL is away")
                more = False
            for number, tail in enumerate([*self._tails], start=1):
                self.go_on(tail)
                if number % TURN == 0:
                    gevent.sleep(0)
            gevent.sleep(0 if more else LOOK_SECONDS)

    def _start_anew(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0
        self._since = self._until = BEGINNING

    def _look(self) -> bool:
        """Keep what is new; return whether there is more."""
        if self._until == BEGINNING:
            with self._database.transaction() as tx:
                self._since = self._until = feed.end(tx)
            return False
        rows, until = read(self._database, self._until, feed.EVERYTHING)
        for row in rows:
            told = Told(feed.position(row), row, frame(row))
            self._kept.append(told)
            self._kept_bytes += len(told.data)
        self._until = until
        while self._kept_bytes > KEPT_BYTES:
            oldest = self._kept.popleft()
            self._kept_bytes -= len(oldest.data)
            self._since = oldest.place
        return len(rows) == ROWS

    # One reader.

    def go_on(self, tail: EventTail) -> None:
        """Send what follows, as far as the socket takes it."""
        while tail.is_ready:
            if tail.place < self._since or self._until == BEGINNING:
                tail.reading = True
                spawn_vital("event reader catching up", self._catch_up, tail)
                return
            if tail.place >= self._until:
                return
            behind = takewhile(lambda told: told.place > tail.place, reversed(self._kept))
            news = [(told.place, told.data) for told in behind if takes(tail.wanted, told.row)]
            self._send(tail, reversed(news), self._until)

    def _catch_up(self, tail: EventTail) -> None:
        """Read for one who is behind."""
        try:
            with self._reads:
                rows, until = read(self._database, tail.place, tail.wanted)
            if tail.is_open and tail.ended_by is None:
                self._send(tail, ((feed.position(row), frame(row)) for row in rows), until)
        except DatabaseUnavailable:
            gevent.sleep(LOOK_SECONDS)
        finally:
            tail.reading = False
        gevent.sleep(0)
        self.go_on(tail)

    def _send(self, tail: EventTail, news: Iterable[tuple[Position, bytes]], until: Position) -> None:
        """Send a piece; the reader stands behind it then, or, if that was all, at `until`."""
        parts: list[bytes] = []
        size = 0
        for place, data in news:
            if parts and size + len(data) > CHUNK_BYTES:
                break
            parts.append(data)
            size += len(data)
            tail.place = place
        else:
            tail.place = max(until, tail.place)
        if parts:
            tail.write(b"".join(parts))


def read(database: Database, after: Position, wanted: Wanted) -> tuple[Sequence[Row[Any]], Position]:
    """Return some rows, and up to where they are all there is. Raises DatabaseUnavailable."""
    with database.transaction() as tx:
        end = feed.end(tx)  # before the rows: what is committed in between is behind it
        rows = feed.read(tx, after, wanted, limit=ROWS)
    if len(rows) == ROWS:
        return rows, feed.position(rows[-1])
    return rows, max(end, after)


def takes(wanted: Wanted, row: Row[Any]) -> bool:
    """Whether a reader wants an event."""
    return (
        (wanted.owner is None or row.owner == wanted.owner)
        and (wanted.kinds is None or row.event_type in wanted.kinds)
        and (wanted.session_id is None or row.session_id == wanted.session_id)
    )


def frame(row: Row[Any]) -> bytes:
    """Return an event as a server-sent one."""
    told = feed.envelope(row)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        (told["position"] or "").encode(),
        told["event_type"].encode(),
        orjson.dumps(told),
    )


def checkpoint(place: Position, *, first: bool = False) -> bytes:
    """Return the event that says how far a reader is, though nothing it wants has come."""
    members = {"position": str(place), "timestamp": sse.timestamp(round(time.time() * 1000))}
    retry = b"retry: %d\n" % sse.RETRY_MS if first else b""
    name = b"connected" if first else b"checkpoint"
    return b"%bid: %b\nevent: %b\ndata: %b\n\n" % (retry, str(place).encode(), name, orjson.dumps(members))


class EventTail(OverEvents):
    """A reader of events on a socket of its own."""

    __slots__ = ("feed", "place", "reading", "wanted")

    transport: ClassVar[str] = "events"

    def __init__(self, hub: Hub, events: Feed, place: Position, wanted: Wanted, fd: int) -> None:
        super().__init__(hub, fd)
        self.feed = events
        self.place = place
        self.wanted = wanted
        self.reading = False
        """Whether PostgreSQL is asked for it."""

    @property
    def is_ready(self) -> bool:
        """Whether more may be sent."""
        return self.is_open and self.ended_by is None and not self.size and not self.reading

    def drained(self) -> None:
        """Go on behind what has waited."""
        if self.ended_by is not None:
            self.farewell()
        else:
            self.feed.go_on(self)

    def heartbeat(self) -> bytes:
        """Say how far it is: whoever filters need not read again what was passed over."""
        return checkpoint(self.place)

    def part(self) -> None:
        """Follow nothing any more."""
        self.feed.forget(self)
