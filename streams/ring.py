"""The ring of one followed session: its recent entries, encoded once for everybody, and where a follower stands in it.

What fills it is `streams.relay`'s business.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gevent.event import Event

from streams import frames, sse
from streams.entries import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

CHUNK_BYTES: Final = 256 * 1024
"""Most bytes handed to a follower's socket at once."""


@dataclass(slots=True)
class Frame:
    """An entry encoded for everybody."""

    seq: int
    kind: EntryKind
    sse: bytes
    _text: bytes | None = None

    @property
    def text(self) -> bytes:
        """Return the entry as a WebSocket message, made when the first follower over one needs it."""
        if self._text is None:
            self._text = frames.entry(self.seq, self.kind, self.sse)
        return self._text

    @classmethod
    def of(cls, entry: Entry) -> Frame:
        """Encode an entry."""
        return cls(entry.seq, entry.kind, sse.frame(entry))


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
        self._ring_bytes = ring_bytes
        self._frames: list[Frame] = []
        self._seqs: list[int] = []
        self._size = 0

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
            self._push(Frame.of(entry))
        if fresh:
            self.wake()
        return True

    def _push(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._seqs.append(frame.seq)
        self._size += len(frame.sse)
        self.last = frame.seq
        if self._size > self._ring_bytes * 5 // 4:  # cut a quarter at once: cutting a list's head costs its length
            self._cut()

    def _cut(self) -> None:
        count = 0
        while self._size > self._ring_bytes and count < len(self._frames) - 1:
            self._size -= len(self._frames[count].sse)
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
        for frame in self._frames[start : start + 1000]:
            if chosen and size + len(frame.sse) > CHUNK_BYTES:
                break
            chosen.append(frame)
            size += len(frame.sse)
        return chosen

    def ended_at(self, final_seq: int) -> None:
        """Take note that the log's last entry is this one: nobody waits for more."""
        at_end = bool(self._frames) and self._frames[-1].kind is EntryKind.TERMINATED
        if self.last >= final_seq and not at_end and not self.cut_short:
            self.cut_short = True
            self.wake()

    def wake(self) -> None:
        """Wake every follower that waits."""
        news, self.news = self.news, Event()
        news.set()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a follower wants: entries behind `after`, output from byte `skip_to` on, only these kinds (None: all)."""

    after: int = 0
    skip_to: int = 0
    kinds: frozenset[EntryKind] | None = None
    as_base64: bool = False

    def takes(self, kind: EntryKind) -> bool:
        """Whether the follower gets entries of a kind."""
        return self.kinds is None or kind in self.kinds or kind in sse.ALWAYS
