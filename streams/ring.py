"""The ring of one followed session: its recent entries, encoded once for everybody, and where a follower stands in it.

What fills it is `streams.relay`'s business, what is sent of it `streams.delivery`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gevent.event import Event

from streams import frames, sse
from streams.entries import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from streams.catching_up import Reader
    from streams.delivery import Group

CHUNK_BYTES: Final = 64 * 1024
"""About as much is handed to a follower's socket at once: what the kernel takes without a pause."""
CHUNK_FRAMES: Final = 1000
FRAME_BYTES: Final = 500
"""What an entry costs in a ring beside its bytes."""


class Frame:
    """An entry, and what was made of it for everybody who gets it in that form."""

    __slots__ = ("_made", "entry", "kind", "seq")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.seq = entry.seq
        self.kind = entry.kind
        self._made: dict[Form, bytes] = {}

    def as_(self, form: Form) -> bytes:
        """Return the entry in a form, made when the first follower needs it."""
        made = self._made.get(form)
        if made is None:
            made = self._made[form] = form(self)
        return made

    def made(self, form: Form) -> bytes | None:
        """Return the entry in a form if somebody has needed it."""
        return self._made.get(form)


if TYPE_CHECKING:
    Form = Callable[[Frame], bytes]


def as_sse(frame: Frame) -> bytes:
    """Return a frame as a server-sent event."""
    return sse.frame(frame.entry)


def as_sse_base64(frame: Frame) -> bytes:
    """Return a frame as a server-sent event that shows bytes which are no text exactly."""
    return sse.frame(frame.entry, as_base64=True)


def as_text(frame: Frame) -> bytes:
    """Return a frame as a WebSocket message."""
    return frames.entry(frame.seq, frame.kind, frame.made(as_sse) or sse.frame(frame.entry))


def as_text_base64(frame: Frame) -> bytes:
    """Return a frame as a WebSocket message that shows bytes which are no text exactly."""
    return frames.entry(frame.seq, frame.kind, sse.frame(frame.entry, as_base64=True))


def as_nothing(_: Frame) -> bytes:
    """Return nothing: for who is only told of the end."""
    return b""


class Channel:
    """One followed session: the frames with a seq above `base`, up to `last`."""

    def __init__(self, session_id: UUID, ring_bytes: int) -> None:
        self.session_id = session_id
        self.followers = 0
        self.base = self.last = -1
        """-1: the head is not known yet; nothing is taken before."""
        self.rung = 0
        """The latest entry a bell told of: it may ring while the head is being found."""
        self.filling = False
        self.cut_short = False
        """The log that is kept ends before what was shown: Redis and a worker were lost at once. It is read, not this."""
        self.news = Event()
        self.groups: list[Group] = []
        """Followers who have everything, by what they want."""
        self.apart: set[Reader] = set()
        """Readers who have everything, and are in no group."""
        self.parked: set[Reader] = set()
        """Readers who cannot know yet what follows."""
        self.told = False
        """Whether its news are about to be sent."""
        self._ring_bytes = ring_bytes
        self._frames: list[Frame] = []
        self._seqs: list[int] = []
        self._size = 0

    @property
    def newest_at_ms(self) -> int | None:
        """Return when the last entry came to be, in milliseconds since 1970."""
        return self._frames[-1].entry.at_ms if self._frames else None

    def begin(self, head: int) -> None:
        """Begin the ring behind the last entry there is."""
        self.base = self.last = head

    def offer(self, entries: Collection[Entry]) -> bool:
        """Take entries that follow the ring's last one; return whether there was no hole before them."""
        if self.last < 0:
            return False
        fresh = [entry for entry in entries if entry.seq > self.last]
        if fresh and fresh[0].seq != self.last + 1 and fresh[0].kind is not EntryKind.GAP:
            return False
        for entry in fresh:
            self._push(Frame(entry))
        if fresh:
            self.wake()
        return True

    def _push(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._seqs.append(frame.seq)
        self._size += _size(frame)
        self.last = frame.seq
        if self._size > self._ring_bytes * 5 // 4:  # cut a quarter at once: cutting a list's head costs its length
            self._cut()

    def _cut(self) -> None:
        count = 0
        while self._size > self._ring_bytes and count < len(self._frames) - 1:
            self._size -= _size(self._frames[count])
            self.base = self._frames[count].seq
            count += 1
        del self._frames[:count], self._seqs[:count]

    def since(self, cursor: int) -> list[Frame] | None:
        """Return the frames behind a cursor, up to CHUNK_BYTES; None if they are not all in the ring."""
        if self.last < 0 or cursor < self.base or self.cut_short:
            return None
        start = bisect_right(self._seqs, cursor)
        chosen: list[Frame] = []
        size = 0
        for frame in self._frames[start : start + CHUNK_FRAMES]:
            size += _size(frame)
            if chosen and size > CHUNK_BYTES:
                break
            chosen.append(frame)
        return chosen

    def ended_at(self, final_seq: int) -> None:
        """Take note that the log's last entry is this one: nobody waits for more."""
        at_end = bool(self._frames) and self._frames[-1].kind is EntryKind.TERMINATED
        if self.last >= final_seq and not at_end and not self.cut_short:
            self.cut_short = True
            self.wake()

    def wake(self) -> None:
        """Wake whoever waits for news by itself."""
        news, self.news = self.news, Event()
        news.set()


def _size(frame: Frame) -> int:
    return len(frame.entry.data) + FRAME_BYTES


@dataclass(frozen=True, slots=True)
class Wish:
    """What a follower wants: entries behind `after`, output from byte `skip_to` on, only these kinds (None: all), in a form."""

    after: int = 0
    skip_to: int = 0
    kinds: frozenset[EntryKind] | None = None
    form: Form = as_sse

    def takes(self, kind: EntryKind) -> bool:
        """Whether the follower gets entries of a kind."""
        return self.kinds is None or kind in self.kinds or kind in sse.ALWAYS
