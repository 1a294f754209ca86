"""What everything that sends entries to one client has in common: how its stream ends, and how a position moves on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Final

from core import metrics
from streams import sse
from streams.entries import EntryKind
from streams.outlet import Outlet
from streams.ring import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from core.errors import JelmoreError
    from streams.relay import Hub
    from streams.ring import Frame, Wish

LINGER_SECONDS: Final = 5.0
"""How long the other side has for its half of the closing. Closed at once, the last bytes may never arrive."""


class Stream(Outlet):
    """A socket that entries go out on: how it ends, whatever is followed."""

    __slots__ = ("ended_by", "hub", "left", "wrote_at")

    transport: ClassVar[str]

    def __init__(self, hub: Hub, fd: int) -> None:
        super().__init__(fd)
        self.hub = hub
        self.ended_by: str | None = None
        self.left: Callable[[Stream], None] | None = None
        """Called once, when the socket is closed."""
        self.wrote_at = time.monotonic()

    # What those who inherit say, beside the log.

    def part(self) -> None:
        """Follow nothing any more."""
        raise NotImplementedError

    def leave(self) -> None:
        """End: this process leaves, and the reader is to come again, elsewhere."""
        raise NotImplementedError

    def refuse(self, fault: JelmoreError) -> None:
        """End: the log cannot be read, or not any more by this reader."""
        raise NotImplementedError

    def tick(self, now: float) -> float:
        """Do what is due; return when to come again."""
        raise NotImplementedError

    # Out.

    def write(self, data: bytes | memoryview) -> None:
        """Send what is no entry, behind all that waits."""
        super().write(data)
        self.wrote_at = time.monotonic()

    # The end.

    def finish(self, why: str) -> None:
        """Send nothing more but what waits, then close."""
        if self.ended_by is not None:
            return
        self.ended_by = why
        self.part()
        if not self.size:
            self.farewell()

    def farewell(self) -> None:
        """Say that nothing follows, and give the other side a moment to hear it."""
        self.half_close()
        self.moved_at = time.monotonic()
        self.hub.wake_at(self, self.moved_at + LINGER_SECONDS)

    def lost(self, why: str) -> None:
        """Close at once: nobody is there any more, or is to be waited for."""
        if not self.is_open:
            return
        self.part()
        self.ended_by = self.ended_by or why
        metrics.STREAMS_ENDED.labels(self.transport, self.ended_by).inc()
        self.release()
        self.hub.forget(self)
        if (left := self.left) is not None:
            self.left = None
            left(self)

    def cut(self) -> None:
        """Close at once, from outside."""
        self.lost("cut")


class OverEvents(Stream):
    """What streams of Server-Sent Events say beside the log."""

    __slots__ = ()

    transport = "sse"

    def heartbeat(self) -> bytes:
        """Return what shows that the stream lives."""
        return sse.HEARTBEAT

    def silent_since(self) -> float:
        """Return when something was sent last."""
        return self.wrote_at

    def leave(self) -> None:
        """Say when to come again."""
        if self.ended_by is None:
            self.write(sse.GOODBYE)
            self.finish("leaving")

    def refuse(self, fault: JelmoreError) -> None:
        """Say why it cannot go on: the status line is long gone."""
        if self.ended_by is None:
            self.write(sse.stream_error(fault.code, fault.detail, round(time.time() * 1000)))
            self.finish(fault.code)

    def tick(self, now: float) -> float:
        """Show that the stream lives; close on who takes nothing."""
        if self.size:
            stalled_at = self.moved_at + self.hub.patience
            if now >= stalled_at:
                self.lost("stalled")
            return min(stalled_at, now + self.hub.beat)
        if self.ended_by is not None:
            if now >= self.moved_at + LINGER_SECONDS:
                self.lost(self.ended_by)
            return self.moved_at + LINGER_SECONDS
        silent_since = self.silent_since()
        if now >= silent_since + self.hub.beat:
            self.write(self.heartbeat())
            silent_since = now
        return min(silent_since + self.hub.beat, now + self.hub.patience)


class Taking:
    """A position in a log that moves on by what a socket takes. Those who inherit hold it."""

    if not TYPE_CHECKING:  # mypy would have the members below in here, where they would be in two bases' ways
        __slots__ = ()

    wish: Wish
    cursor: int
    skips: bool
    ends: bool
    ahead: Sequence[Frame]

    @property
    def out(self) -> Stream:
        """Return the socket."""
        raise NotImplementedError

    def shaped(self, frame: Frame) -> bytes:
        """Return an entry as it is sent."""
        raise NotImplementedError

    def take(self, frames: Sequence[Frame]) -> None:
        """Send frames that follow, as far as the socket takes them at once; `cursor` and what waits say how far."""
        chosen: list[tuple[Frame, bytes]] = []
        size = 0
        for frame in frames:
            part = self._part(frame)
            if chosen and size + len(part) > CHUNK_BYTES:
                break
            chosen.append((frame, part))
            size += len(part)
        taken, out = 0, self.out
        if size:
            out.wrote_at = time.monotonic()
            try:
                taken = out.push(b"".join([part for _, part in chosen]))
            except BlockingIOError:
                pass
            except OSError:
                out.lost("client")
                return
        out.written += taken
        metrics.STREAM_BYTES.inc(taken)
        self._move(chosen, taken)
        self.ahead = [frame for frame in self.ahead if frame.seq > self.cursor]

    def took(self, frames: Sequence[Frame], taken: int) -> None:
        """Find where it stands after so many bytes of these; of an entry that was cut the rest is held."""
        self._move(((frame, self._part(frame)) for frame in frames), taken)

    def _part(self, frame: Frame) -> bytes:
        return self.shaped(frame) if self.wish.takes(frame.kind) else b""

    def _move(self, parts: Iterable[tuple[Frame, bytes]], taken: int) -> None:
        for frame, part in parts:
            self.cursor = frame.seq
            self.skips = False
            if frame.kind is EntryKind.GAP:
                metrics.GAPS.inc()
            self.ends = self.ends or frame.kind is EntryKind.TERMINATED
            if taken < len(part):
                self.out.hold(memoryview(part)[taken:])
                return
            taken -= len(part)
