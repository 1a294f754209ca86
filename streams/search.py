"""Finding a text in a session's output: byte by byte, over all there is, a bounded piece of it at a time."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streams.output import seq_before

if TYPE_CHECKING:
    from uuid import UUID

    from streams.entries import Entry
    from streams.log import Log

MOST_BYTES: Final = 16 * 1024 * 1024
"""Output that is looked at in one go: some tenths of a second."""


@dataclass(frozen=True, slots=True)
class Sought:
    """A text, and whether the case of ASCII letters is ignored."""

    text: bytes
    ignore_case: bool = False

    def folded(self, data: bytes) -> bytes:
        """Return bytes as they are compared."""
        return data.lower() if self.ignore_case else data


@dataclass(frozen=True, slots=True)
class Match:
    """Where the text stands: its first byte, and the entry that brought that."""

    offset: int
    seq: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was found before `next_offset`, where one goes on. `complete`: the session has ended and nothing follows."""

    matches: list[Match]
    next_offset: int
    complete: bool


def search(log: Log, session_id: UUID, sought: Sought, offset: int, limit: int, *, ended: bool) -> Found:
    """Return the first `limit` places of a text at or behind a byte position; one begins behind the end of the last.

    Output that is gone separates: nothing is found across a gap. `ended`: the session's end is written. Raises
    DatabaseUnavailable.
    """
    scan = _Scan(sought, offset, limit)
    seq = seq_before(log, session_id, offset)
    while True:
        reading = log.read(session_id, seq, ended=ended)
        for entry in reading.entries:
            seq = entry.seq
            if entry.is_output and entry.end_offset > offset:
                scan.add(entry)
        scan.look()
        if scan.is_full or scan.looked_at >= MOST_BYTES:
            return Found(scan.matches, scan.next_offset, complete=False)
        if reading.ended or not reading.entries:
            return Found(scan.matches, scan.end if reading.ended else scan.next_offset, complete=reading.ended)


@dataclass(slots=True)
class _Scan:
    """The output that was read and not yet looked through, and what was found."""

    sought: Sought
    end: int
    """Where the output that was read ends."""
    limit: int
    matches: list[Match] = field(default_factory=list)
    looked_at: int = 0
    next_offset: int = field(init=False)
    _buffer: bytearray = field(default_factory=bytearray)
    _begins: list[int] = field(default_factory=list)
    _seqs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next_offset = self.end

    @property
    def is_full(self) -> bool:
        return len(self.matches) == self.limit

    def add(self, entry: Entry) -> None:
        """Take an entry's bytes, those behind where we are."""
        if entry.offset > self.end:  # what stood between is gone
            self.look()
            self._buffer.clear()
            self.next_offset = self.end = entry.offset
        piece = entry.data[self.end - entry.offset :]
        self._begins.append(self.end)
        self._seqs.append(entry.seq)
        self._buffer += self.sought.folded(piece)
        self.end += len(piece)
        self.looked_at += len(piece)

    def look(self) -> None:
        """Look through what was taken; keep what a match may begin with that goes on in the next entry."""
        start = self.end - len(self._buffer)
        text = self.sought.folded(self.sought.text)
        at = self._buffer.find(text, self.next_offset - start)
        while at >= 0 and not self.is_full:
            offset = start + at
            self.matches.append(Match(offset, self._seqs[bisect_right(self._begins, offset) - 1]))
            self.next_offset = offset + len(text)
            at = self._buffer.find(text, self.next_offset - start)
        if self.is_full:
            return
        self.next_offset = max(self.next_offset, self.end - len(text) + 1)
        del self._buffer[: self.next_offset - start]
        kept = bisect_right(self._begins, self.next_offset) - 1
        del self._begins[: max(kept, 0)], self._seqs[: max(kept, 0)]
