"""Live readers of one web process. The *hub* keeps a ring of recent entries per followed session, encoded once for everybody;
a *follower* is a cursor into it, never a queue.

Messages only say "look", though most bring the entries with them: pub/sub loses messages silently, so a hole of the ring is
filled from the log, once a session, and once a second the hub asks Redis and PostgreSQL about all followed sessions.

Runs under gevent. Followers have sockets of their own, which are written from here (`streams.delivery`); where a server cannot
give its sockets away there are generators instead (`streams.pulling`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import gevent
import structlog
from gevent.lock import BoundedSemaphore
from redis.exceptions import RedisError

from core import metrics
from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from streams.catching_up import READS_AT_ONCE, CatchingUp
from streams.delivery import Delivery
from streams.entries import unpack_all
from streams.ring import Channel
from streams.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from streams.catching_up import Reader
    from streams.doorbells import Doorbells
    from streams.followers import Follower
    from streams.log import Log, Reading
    from streams.many import ManyStream
    from streams.sending import Stream

log = structlog.get_logger(__name__)

LINGER_SECONDS: Final = 5.0
"""How long a ring outlives its last follower: reconnecting clients find it."""
TICK_SECONDS: Final = 0.1
TURN: Final = 256
"""So many followers are looked at in one go, then others run."""


class Limits(Protocol):
    """The part of the settings that is read here."""

    @property
    def ring_bytes(self) -> int: ...
    @property
    def look_interval_seconds(self) -> float: ...
    @property
    def heartbeat_seconds(self) -> float: ...
    @property
    def follower_timeout_seconds(self) -> float: ...


class Hub:
    """All followed sessions of this process."""

    def __init__(self, reader: Log, doorbells: Doorbells, limits: Limits) -> None:
        self.beat = limits.heartbeat_seconds
        """How long a stream is silent at most."""
        self.patience = limits.follower_timeout_seconds
        """How long a follower may take no byte."""
        self.look_seconds = limits.look_interval_seconds
        self.delivery = Delivery(CatchingUp(reader, self._go_on))
        self._log = reader
        self._doorbells = doorbells
        self._limits = limits
        self._channels: dict[UUID, Channel] = {}
        self._reads = BoundedSemaphore(READS_AT_ONCE)
        self._wheel: Wheel[Stream] = Wheel(TICK_SECONDS, time.monotonic())
        self._open: set[Stream] = set()
        self._leaving = False

    def open(self) -> None:
        """Start listening, looking and sending."""
        self._doorbells.open(self._on_bell, self._look_soon)
        self.delivery.open()
        spawn_vital("relay's look", self._keep_looking)
        spawn_vital("relay's clock", self._keep_time)

    def goodbye(self) -> None:
        """Tell every follower to come again, elsewhere: this process leaves."""
        self._leaving = True
        for channel in self._channels.values():
            channel.wake()
        for follower in [*self._open]:
            follower.leave()

    def see_off(self, seconds: float) -> None:
        """Wait until everybody has been told and is gone; for those who take nothing at most so long."""
        give_up = time.monotonic() + seconds
        while self._open and time.monotonic() < give_up:
            gevent.sleep(TICK_SECONDS)

    # Followers.

    def admit(self, follower: Follower, first: bytes, *, follows: bool = True) -> None:
        """Let a follower begin, with what is to be sent before the log, if it gets that at all."""
        self._open.add(follower)
        channel = self.join(follower.session_id, follower.transport) if follows else None
        if channel is not None and not follower.is_open:  # gone meanwhile
            self.leave(channel, follower.transport)
            return
        follower.channel = channel
        self.adopt(follower, first)
        self.delivery.go_on(follower)

    def admit_many(self, stream: ManyStream, first: bytes) -> None:
        """Let a stream of many sessions begin, with what is to be sent before the logs."""
        self._open.add(stream)
        for part in stream.parts:
            if part.is_over:
                continue
            channel = self.join(part.session_id)
            if not stream.is_open:  # gone meanwhile
                self.leave(channel)
                return
            part.channel = channel
        self.adopt(stream, first)
        stream.go_on()

    def adopt(self, stream: Stream, first: bytes) -> None:
        """Keep a stream's time, and send what comes first."""
        self._open.add(stream)
        stream.write(first)
        self.wake_at(stream, stream.tick(time.monotonic()))
        if self._leaving:
            stream.leave()

    def part(self, follower: Follower) -> None:
        """Take a follower off its log."""
        if follower.group is not None:
            follower.group.leave(follower)
        self.drop(follower, follower.transport)

    def drop(self, reader: Reader, transport: str | None = None) -> None:
        """Take a reader off its log."""
        channel, reader.channel = reader.channel, None
        if channel is not None:
            reader.asking = None
            channel.apart.discard(reader)
            channel.parked.discard(reader)
            self.leave(channel, transport)

    def forget(self, stream: Stream) -> None:
        """Take note that a socket is closed."""
        self._open.discard(stream)

    def wake_at(self, stream: Stream, at: float) -> None:
        """Look at a stream then."""
        self._wheel.add(stream, at)

    def _go_on(self, follower: Reader) -> None:
        self.delivery.go_on(follower)

    def _keep_time(self) -> None:
        while True:
            gevent.sleep(TICK_SECONDS)
            for number, follower in enumerate(self._wheel.turn(time.monotonic()), start=1):
                if follower.is_open:
                    self._wheel.add(follower, follower.tick(time.monotonic()))
                if number % TURN == 0:
                    gevent.sleep(0)

    @contextmanager
    def listen(self, session_id: UUID) -> Iterator[Channel]:
        """Join a session's channel for its news alone: who waits for something in the log reads the log itself."""
        channel = self.join(session_id, "wait")
        try:
            yield channel
        finally:
            self.leave(channel, "wait")

    @property
    def leaving(self) -> bool:
        """Whether this process leaves: whoever waits is to come again, elsewhere."""
        return self._leaving

    def join(self, session_id: UUID, transport: str | None = None) -> Channel:
        """Return a session's channel, for one more who follows it; `transport`: counted as a stream of its own."""
        channel = self._channels.get(session_id)
        if channel is None:
            channel = self._channels[session_id] = Channel(session_id, self._limits.ring_bytes)
            self._doorbells.subscribe(session_id)
            spawn_vital("ring's begin", self._begin, channel)
        channel.followers += 1
        if transport is not None:
            metrics.FOLLOWERS.labels(transport).inc()
        return channel

    def _begin(self, channel: Channel) -> None:
        """Find the log's head; until then followers read the log themselves."""
        while channel.last < 0 and channel.session_id in self._channels:
            try:
                channel.begin(self._log.head(channel.session_id))
            except DatabaseUnavailable:
                gevent.sleep(self.look_seconds)
        if channel.rung > channel.last:
            self._fill(channel)
        channel.wake()
        self.delivery.unpark(channel)

    def leave(self, channel: Channel, transport: str | None = None) -> None:
        """Let go of a channel."""
        channel.followers -= 1
        if transport is not None:
            metrics.FOLLOWERS.labels(transport).dec()
        if channel.followers == 0:
            gevent.spawn_later(LINGER_SECONDS, self._drop, channel)

    def _drop(self, channel: Channel) -> None:
        if channel.followers == 0 and self._channels.get(channel.session_id) is channel:
            del self._channels[channel.session_id]
            self._doorbells.unsubscribe(channel.session_id)

    def read(self, session_id: UUID, after: int) -> Reading:
        """Read a log as one of a few at a time. Raises DatabaseUnavailable."""
        with self._reads:
            return self._log.read(session_id, after)

    # News.

    def _on_bell(self, session_id: UUID, seq: int, blob: bytes | None) -> None:
        channel = self._channels.get(session_id)
        if channel is None or seq <= channel.last:
            return
        channel.rung = max(channel.rung, seq)
        if blob is None or not channel.offer(unpack_all(blob)):
            self._fill(channel)
        else:
            self.delivery.tell(channel)

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
                reading = self.read(channel.session_id, channel.last)
                taken = bool(reading.entries) and channel.offer(reading.entries)
                if taken:
                    self.delivery.tell(channel)
                if taken and not reading.ended:
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
            gevent.sleep(self.look_seconds)
            self._look()
            for channel in [*self._channels.values()]:
                self.delivery.unpark(channel)

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
                    if channel.cut_short:
                        self.delivery.tell(channel)
                known[session_id] = max(known.get(session_id, 0), look.last_stored_seq, look.final_seq or 0)
        except DatabaseUnavailable:
            log.debug("look without PostgreSQL")
        for session_id, seq in known.items():
            channel = self._channels.get(session_id)
            if channel is not None and seq > channel.last:
                self._fill(channel)
