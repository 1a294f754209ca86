"""Live readers of one web process. The *hub* keeps a ring of recent entries per followed session, encoded once for everybody;
a *follower* is a cursor into it, never a queue.

Messages only say "look", though most bring the entries with them: pub/sub loses messages silently, so a hole of the ring is
filled from the log, once a session, and once a second the hub asks Redis and PostgreSQL about all followed sessions. A
follower behind the ring reads the log by itself, at most a few at a time, until it has caught up.

Runs under gevent. Followers are generators here, which yield frames encoded for everybody; how those are sent is theirs who ask.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import gevent
import structlog
from gevent.lock import BoundedSemaphore
from redis.exceptions import RedisError

from core import metrics
from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from streams import sse
from streams.entries import Entry, EntryKind, unpack_all
from streams.followers import Follower
from streams.ring import Channel, Frame, Wish

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from uuid import UUID

    from streams.doorbells import Doorbells
    from streams.log import Log

log = structlog.get_logger(__name__)

READS_AT_ONCE: Final = 8
LINGER_SECONDS: Final = 5.0
"""How long a ring outlives its last follower: reconnecting clients find it."""
PATIENCE_SECONDS: Final = 60.0
"""How long a follower waits for a log that cannot be read."""


class Limits(Protocol):
    """The part of the settings that is read here."""

    @property
    def ring_bytes(self) -> int: ...
    @property
    def look_interval_seconds(self) -> float: ...
    @property
    def heartbeat_seconds(self) -> float: ...


class Hub:
    """All followed sessions of this process."""

    def __init__(self, reader: Log, doorbells: Doorbells, limits: Limits) -> None:
        self.streams = 0
        self._log = reader
        self._doorbells = doorbells
        self._limits = limits
        self._channels: dict[UUID, Channel] = {}
        self._reads = BoundedSemaphore(READS_AT_ONCE)
        self._leaving = False

    def open(self) -> None:
        """Start listening and looking."""
        self._doorbells.open(self._on_bell, self._look_soon)
        spawn_vital("relay's look", self._keep_looking)

    def goodbye(self) -> None:
        """Tell every follower to come again, elsewhere: this process leaves."""
        self._leaving = True
        for channel in self._channels.values():
            channel.wake()

    # Followers.

    def follow(self, session_id: UUID, wish: Wish) -> Iterator[bytes]:
        """Yield the session's events from a position on, until after its end. Closing the generator ends the following."""
        ended = False
        with closing(self.frames(session_id, Follower(wish), "sse")) as looks:
            for frames in looks:
                yield b"".join(frame.sse for frame in frames) or sse.HEARTBEAT
                ended = bool(frames) and frames[-1].kind is EntryKind.TERMINATED
        if not ended:
            yield sse.GOODBYE

    def frames(self, session_id: UUID, follower: Follower, transport: str) -> Generator[list[Frame], None, None]:
        """Yield what a follower wants, until after the session's end, or until this process leaves.

        Nothing at all (an empty list): nothing has come for a while, or the follower is called.
        """
        channel = self._join(session_id, transport)
        try:
            yield from self._looks(channel, follower)
        finally:
            self._part(channel, transport)

    @contextmanager
    def listen(self, session_id: UUID) -> Iterator[Channel]:
        """Join a session's channel for its news alone: who waits for something in the log reads the log itself."""
        channel = self._join(session_id, "wait")
        try:
            yield channel
        finally:
            self._part(channel, "wait")

    @property
    def leaving(self) -> bool:
        """Whether this process leaves: whoever waits is to come again, elsewhere."""
        return self._leaving

    def _join(self, session_id: UUID, transport: str) -> Channel:
        channel = self._channels.get(session_id)
        if channel is None:
            channel = self._channels[session_id] = Channel(session_id, self._limits.ring_bytes)
            self._doorbells.subscribe(session_id)
            spawn_vital("ring's begin", self._begin, channel)
        channel.followers += 1
        self.streams += 1
        metrics.FOLLOWERS.labels(transport).inc()
        return channel

    def _begin(self, channel: Channel) -> None:
        """Find the log's head; until then followers read the log themselves."""
        while channel.last < 0 and channel.session_id in self._channels:
            try:
                channel.begin(self._log.head(channel.session_id))
            except DatabaseUnavailable:
                gevent.sleep(self._limits.look_interval_seconds)
        if channel.rung > channel.last:
            self._fill(channel)
        channel.wake()

    def _part(self, channel: Channel, transport: str) -> None:
        channel.followers -= 1
        self.streams -= 1
        metrics.FOLLOWERS.labels(transport).dec()
        if channel.followers == 0:
            gevent.spawn_later(LINGER_SECONDS, self._drop, channel)

    def _drop(self, channel: Channel) -> None:
        if channel.followers == 0 and self._channels.get(channel.session_id) is channel:
            del self._channels[channel.session_id]
            self._doorbells.unsubscribe(channel.session_id)

    def _looks(self, channel: Channel, follower: Follower) -> Iterator[list[Frame]]:
        unread_since: float | None = None
        while not self._leaving:
            if follower.is_called:
                yield []
            news, wish = channel.news, follower.wish  # before looking: what comes in between wakes us
            try:
                frames = self._next(channel, follower.cursor, wish)
            except DatabaseUnavailable:
                unread_since = unread_since or time.monotonic()
                if time.monotonic() - unread_since > PATIENCE_SECONDS:
                    raise
                yield []
                gevent.sleep(self._limits.look_interval_seconds)
                continue
            unread_since = None
            if follower.is_called:  # meanwhile: what was read is not wanted any more
                continue
            if not frames:
                if not follower.wait(news, self._limits.heartbeat_seconds):
                    yield []
                continue
            follower.cursor = frames[-1].seq
            metrics.GAPS.inc(sum(frame.kind is EntryKind.GAP for frame in frames))
            if wanted := [frame for frame in frames if wish.takes(frame.kind)]:
                yield wanted
            if frames[-1].kind is EntryKind.TERMINATED:
                return

    def _next(self, channel: Channel, cursor: int, wish: Wish) -> list[Frame]:
        """Return what follows a cursor: from the ring, or, behind it or where the ring has not what is wanted, the log."""
        own = wish.as_base64 or (wish.skip_to > 0 and cursor == wish.after)
        if not own:
            frames = channel.since(cursor)
            if frames is not None:
                return frames
        elif 0 <= channel.last <= cursor and not channel.cut_short:
            return []
        with self._reads:
            reading = self._log.read(channel.session_id, cursor)
        if own:
            shown = (_skipped(entry, wish.skip_to) for entry in reading.entries)
            return [Frame(entry.seq, entry.kind, sse.frame(entry, as_base64=wish.as_base64)) for entry in shown]
        return [Frame.of(entry) for entry in reading.entries]

    # News.

    def _on_bell(self, session_id: UUID, seq: int, blob: bytes | None) -> None:
        channel = self._channels.get(session_id)
        if channel is None or seq <= channel.last:
            return
        channel.rung = max(channel.rung, seq)
        if blob is None or not channel.offer(unpack_all(blob)):
            self._fill(channel)

    def _fill(self, channel: Channel) -> None:
        """Fill a ring from the log, once a session however many followers wait for it."""
        if not channel.filling and channel.last >= 0:
            channel.filling = True
            metrics.HOLES.inc()
            spawn_vital("ring's filling", self._fill_now, channel)

    def _fill_now(self, channel: Channel) -> None:
        looked_for = -1
        try:
            while self._channels.get(channel.session_id) is channel:
                with self._reads:
                    reading = self._log.read(channel.session_id, channel.last)
                if reading.entries and channel.offer(reading.entries) and not reading.ended:
                    continue
                if channel.rung <= channel.last or channel.rung == looked_for:
                    return
                looked_for = channel.rung  # rung during the read: once more, what was rung for is there by now
        except DatabaseUnavailable:
            log.debug("ring not filled; the next look tries again", session_id=str(channel.session_id))
        finally:
            channel.filling = False

    def _look_soon(self) -> None:
        """Doorbells were lost: whatever rang meanwhile is found by looking."""
        spawn_vital("relay's extra look", self._look)

    def _keep_looking(self) -> None:
        while True:
            gevent.sleep(self._limits.look_interval_seconds)
            self._look()

    def _look(self) -> None:
        """Ask Redis, then PostgreSQL, how far each followed session is."""
        wanted = [channel.session_id for channel in self._channels.values() if channel.last >= 0]
        if not wanted:
            return
        known: dict[UUID, int] = {}
        try:
            known = self._log.live_heads(wanted)
        except RedisError:
            metrics.REDIS_ERRORS.labels("look").inc()
        try:
            for session_id, look in self._log.looks(wanted).items():
                if look.final_seq is not None and (channel := self._channels.get(session_id)):
                    channel.ended_at(look.final_seq)
                known[session_id] = max(known.get(session_id, 0), look.last_stored_seq, look.final_seq or 0)
        except DatabaseUnavailable:
            log.debug("look without PostgreSQL")
        for session_id, seq in known.items():
            channel = self._channels.get(session_id)
            if channel is not None and seq > channel.last:
                self._fill(channel)


def _skipped(entry: Entry, skip_to: int) -> Entry:
    """Return an output entry without its bytes before a position."""
    if not entry.is_output or entry.offset >= skip_to:
        return entry
    kept = max(0, entry.end_offset - skip_to)
    data = entry.data[len(entry.data) - kept :]
    return Entry(entry.seq, entry.kind, entry.at_ms, {**entry.fields, "offset": entry.end_offset - kept}, data)
