"""A reader of one session's log on a socket of its own: where it stands, and what becomes of it. Nobody's greenlet waits for it.

It is always in one of these places:
* in a *group* (`streams.delivery`), with everybody else who has all there is: where that is, the group knows;
* *waiting* for its socket: the rest of one entry is held, the next ones are fetched when that is gone;
* *asking* the log for what the ring has no longer (`streams.catching_up`);
* *parked*, because nobody knows yet what follows;
* *ending*: nothing more is sent but what waits.

So a reader that takes nothing costs the rest of one entry, and at most what one look at the log brought.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Final

from core import metrics
from streams import sse
from streams.entries import EntryKind
from streams.outlet import Outlet
from streams.ring import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from core.errors import JelmoreError
    from streams.catching_up import Place
    from streams.delivery import Group
    from streams.relay import Hub
    from streams.ring import Channel, Frame, Wish

LINGER_SECONDS: Final = 5.0
"""How long the other side has for its half of the closing. Closed at once, the last bytes may never arrive."""


class Follower(Outlet):
    """One reader. It says what is written beside the log, and when."""

    __slots__ = (
        *("ahead", "asking", "channel", "cursor", "ended_by", "ends", "form", "group", "hub", "left", "session_id"),
        *("skips", "unread_since", "wish", "wrote_at"),
    )

    transport: ClassVar[str]

    def __init__(self, hub: Hub, session_id: UUID, wish: Wish, fd: int) -> None:
        super().__init__(fd)
        self.hub = hub
        self.session_id = session_id
        self.wish = wish
        self.form = wish.form
        self.cursor = wish.after
        """The last entry that was sent, or is held; in a group, what the group says instead."""
        self.skips = wish.skip_to > 0
        """Whether the first output must be cut: it is the reader's own then."""
        self.channel: Channel | None = None
        self.group: Group | None = None
        self.asking: Place | None = None
        self.ahead: Sequence[Frame] = ()
        """Read from the log and not sent yet."""
        self.ends = False
        """Whether nothing follows `ahead`, ever."""
        self.unread_since: float | None = None
        self.ended_by: str | None = None
        self.left: Callable[[Follower], None] | None = None
        """Called once, when the socket is closed."""
        self.wrote_at = time.monotonic()

    # What it says, beside the log.

    def at_end(self) -> None:
        """End: the session's end has been sent."""
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

    # Its way through the log.

    def take(self, frames: Sequence[Frame]) -> None:
        """Send frames that follow, as far as the socket takes them at once; `cursor` and what waits say how far."""
        chosen: list[Frame] = []
        parts, size = [], 0
        for frame in frames:
            part = frame.as_(self.form) if self.wish.takes(frame.kind) else b""
            if chosen and size + len(part) > CHUNK_BYTES:
                break
            chosen.append(frame)
            parts.append(part)
            size += len(part)
        taken = 0
        if size:
            self.wrote_at = time.monotonic()
            try:
                taken = self.push(b"".join(parts))
            except BlockingIOError:
                pass
            except OSError:
                self.lost("client")
                return
        self.written += taken
        self.took(chosen, taken)
        self.ahead = [frame for frame in self.ahead if frame.seq > self.cursor]

    def took(self, frames: Sequence[Frame], taken: int) -> None:
        """Find where it stands after so many bytes of these; of an entry that was cut the rest is held."""
        for frame in frames:
            part = frame.as_(self.form) if self.wish.takes(frame.kind) else b""
            self.cursor = frame.seq
            self.skips = False
            if frame.kind is EntryKind.GAP:
                metrics.GAPS.inc()
            self.ends = self.ends or frame.kind is EntryKind.TERMINATED
            if taken < len(part):
                self.hold(memoryview(part)[taken:])
                return
            taken -= len(part)

    def drained(self) -> None:
        """Go on behind what has waited."""
        if self.ended_by is not None:
            self.farewell()
        else:
            self.hub.delivery.go_on(self)

    def write(self, data: bytes | memoryview) -> None:
        """Send what is no entry, behind all that waits."""
        super().write(data)
        self.wrote_at = time.monotonic()
        if self.size and self.group is not None:
            self.group.leave(self)

    # The end.

    def finish(self, why: str) -> None:
        """Send nothing more but what waits, then close."""
        if self.ended_by is not None:
            return
        self.ended_by = why
        self.hub.part(self)
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
        self.hub.part(self)
        self.ended_by = self.ended_by or why
        self.release()
        self.hub.forget(self)
        self.ahead = ()
        if (left := self.left) is not None:
            self.left = None
            left(self)

    def cut(self) -> None:
        """Close at once, from outside."""
        self.lost("cut")


class EventStream(Follower):
    """A reader over Server-Sent Events."""

    __slots__ = ()

    transport = "sse"

    def at_end(self) -> None:
        """Close behind the log's last entry."""
        self.finish("end")

    def leave(self) -> None:
        """Say when to come again."""
        if self.ended_by is None:
            self.write(sse.GOODBYE)
            self.finish("leaving")

    def heartbeat(self) -> bytes:
        """Return what shows that the stream lives."""
        return sse.HEARTBEAT

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
        silent_since = max(self.wrote_at, self.group.sent_at if self.group is not None else 0.0)
        if now >= silent_since + self.hub.beat:
            self.write(self.heartbeat())
            silent_since = now
        return min(silent_since + self.hub.beat, now + self.hub.patience)
