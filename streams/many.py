"""Many sessions in one stream: one socket, a position in each of their logs.

What is sent of each log is in order and whole; between the logs there is no order but that of sending. An event's id is where
the reader stands in every one of them behind it, so that a stream goes on anywhere with nothing lost and nothing twice.

Entries are encoded once, as for those who follow one session: around them come the reader's own id and the session's name. As
ids differ from reader to reader there are no groups here. A reader that takes nothing costs the rest of one entry, and what one
look at one of its logs brought: its logs are read in turn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from core import metrics
from streams.ring import Wish
from streams.sending import OverEvents, Taking

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from core.errors import JelmoreError
    from streams.catching_up import Place
    from streams.relay import Hub
    from streams.ring import Channel, Frame
    from streams.sending import Stream

MOST_SESSIONS: Final = 50


class Followed(NamedTuple):
    """One session of a stream. `wish` None: its log was read to its end, which is entry `after`."""

    session_id: UUID
    after: int
    wish: Wish | None


class Ids:
    """Where a reader stands in each log, as the ids of its events."""

    __slots__ = ("_seqs",)

    def __init__(self, followed: Sequence[Followed]) -> None:
        self._seqs = [b"%d" % each.after for each in followed]

    def at(self, index: int, seq: int) -> bytes:
        """Return the id behind an entry of one of the logs."""
        self._seqs[index] = b"%d" % seq
        return b",".join(self._seqs)


def named(event: bytes, event_id: bytes, name: bytes) -> bytes:
    """Return an event with another id, and the session's name as the first member of its data."""
    start = event.index(b"\n")  # behind the id it had
    inside = event.index(b"{", start) + 1
    return b"id: %b%b%b%b" % (event_id, event[start:inside], name, event[inside:])


def name_of(session_id: UUID) -> bytes:
    """Return the member that names a session."""
    return b'"session_id":"%b",' % str(session_id).encode()


class Part(Taking):
    """One of the logs that a stream follows, and where its reader stands there."""

    __slots__ = (
        *("_index", "_name", "_stream", "ahead", "asking", "channel", "cursor", "ends", "is_over", "session_id"),
        *("skips", "unread_since", "wish"),
    )

    def __init__(self, stream: ManyStream, index: int, followed: Followed) -> None:
        self.session_id = followed.session_id
        self.wish = wish = followed.wish or Wish(followed.after)
        self.cursor = followed.after
        self.is_over = followed.wish is None
        self.skips = wish.skip_to > 0
        self.channel: Channel | None = None
        self.asking: Place | None = None
        self.ahead: Sequence[Frame] = ()
        self.ends = False
        self.unread_since: float | None = None
        self._stream = stream
        self._index = index
        self._name = name_of(followed.session_id)

    @property
    def size(self) -> int:
        """Return how many bytes wait for the socket."""
        return self._stream.size

    @property
    def out(self) -> Stream:
        """Return the socket, which all parts share."""
        return self._stream

    def shaped(self, frame: Frame) -> bytes:
        """Return an entry with this reader's id."""
        return named(frame.as_(self.wish.form), self._stream.ids.at(self._index, frame.seq), self._name)

    def take(self, frames: Sequence[Frame]) -> None:
        """Send frames that follow, as far as the socket takes them at once."""
        super().take(frames)
        self._stream.ids.at(self._index, self.cursor)
        if not self.ahead:
            self._stream.has_asked(self)

    def at_end(self) -> None:
        """Follow this log no more; the stream ends with the last one."""
        self.is_over = True
        self._stream.hub.drop(self)
        self._stream.has_asked(self)
        self._stream.end_if_over()

    def refuse(self, fault: JelmoreError) -> None:
        """End the stream: what is missing of one log nobody could tell."""
        self._stream.refuse(fault)

    def may_ask(self) -> bool:
        """Whether it is this log's turn to be read."""
        return self._stream.may_ask(self)

    def park(self) -> None:
        """Wait until somebody may know what follows."""
        if self.channel is not None:
            self.channel.parked.add(self)
        self._stream.has_asked(self)

    def settle(self, channel: Channel) -> None:
        """Wait for what is new."""
        channel.apart.add(self)
        self._stream.has_asked(self)


class ManyStream(OverEvents):
    """A reader of many logs over Server-Sent Events."""

    __slots__ = ("_asks", "_first", "_to_ask", "ids", "parts")

    def __init__(self, hub: Hub, followed: Sequence[Followed], fd: int) -> None:
        super().__init__(hub, fd)
        self.ids = Ids(followed)
        self.parts = [Part(self, index, each) for index, each in enumerate(followed)]
        self._first = 0
        """Whose turn it is first when there is room again."""
        self._asks: Part | None = None
        """Whose log is being read, or was and is not sent yet."""
        self._to_ask: deque[Part] = deque()
        metrics.FOLLOWERS.labels(self.transport).inc()

    def go_on(self) -> None:
        """Send what follows in each log, as long as the socket takes it; the first in turn is another each time."""
        count = len(self.parts)
        self._first = (self._first + 1) % count
        for step in range(count):
            if self.size or self.ended_by is not None:
                return
            self.hub.delivery.go_on(self.parts[(self._first + step) % count])

    def drained(self) -> None:
        """Go on behind what has waited."""
        if self.ended_by is not None:
            self.farewell()
        else:
            self.go_on()

    def end_if_over(self) -> None:
        """Close behind the last log's last entry."""
        if all(part.is_over for part in self.parts):
            self.finish("end")

    # Reading the logs, one at a time.

    def may_ask(self, part: Part) -> bool:
        """Give a part its turn, or let it wait for that."""
        if self._asks is None:
            self._asks = part
        elif self._asks is not part and part not in self._to_ask:
            self._to_ask.append(part)
        return self._asks is part

    def has_asked(self, part: Part) -> None:
        """Let the next part ask, if this one has, and has sent what came of it."""
        if self._asks is not part:
            return
        self._asks = None
        while self._to_ask and self._asks is None:
            following = self._to_ask.popleft()
            if following.channel is not None:
                self._asks = following
                # Not from within this one's turn: fifty parts would be fifty calls deep.
                self._loop.run_callback(self.hub.delivery.go_on, following)

    # The end.

    def part(self) -> None:
        """Follow nothing any more."""
        for each in self.parts:
            self.hub.drop(each)
            each.ahead = ()

    def lost(self, why: str) -> None:
        """Close at once: nobody is there any more, or is to be waited for."""
        if self.is_open:
            metrics.FOLLOWERS.labels(self.transport).dec()
        super().lost(why)
