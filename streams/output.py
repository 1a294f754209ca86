"""A session's output by byte position: what GET output shows. Entry by entry reading is `streams.log`'s.

Nothing here loads all of a long output: it walks stretches from the one that holds the position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.errors import OutputExpired
from models import segments
from streams.entries import EntryKind, unpack_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from streams.entries import Entry
    from streams.log import Log

SLICE_BYTES: Final = 1024 * 1024
STRETCHES_BACK: Final = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """Output bytes [offset, offset + len(data)). `complete`: the session has ended and nothing follows."""

    offset: int
    data: bytes
    complete: bool

    @property
    def next_offset(self) -> int:
        """Return where the next slice begins."""
        return self.offset + len(self.data)


def read(log: Log, session_id: UUID, offset: int, limit: int, *, ended: bool = False) -> Slice:
    """Return at most `limit` bytes of output from `offset` on: all there is now.

    Raises DatabaseUnavailable; OutputExpired if some of it is gone: what is left is never joined over a hole.
    `ended`: the caller knows that the session's end is written; Redis need not be asked.
    """
    seq = seq_before(log, session_id, offset)
    pieces: list[bytes] = []
    size = 0
    while True:
        reading = log.read(session_id, seq, ended=ended)
        for entry in reading.entries:
            seq = entry.seq
            if begin(entry) > offset + size:
                raise OutputExpired
            if entry.is_output and entry.end_offset > offset:
                piece = entry.data[max(0, offset - entry.offset) :][: limit - size]
                pieces.append(piece)
                size += len(piece)
                if size >= limit:
                    return Slice(offset, b"".join(pieces), complete=False)
        if reading.ended or not reading.entries:
            return Slice(offset, b"".join(pieces), complete=reading.ended)


def begin(entry: Entry) -> int:
    """Return how much was printed before what an entry brings, as far as it says so."""
    if entry.is_output:
        return entry.offset
    return int(entry.fields["output_bytes"]) if entry.kind is EntryKind.TERMINATED else 0


def refuse_gone(log: Log, session_id: UUID, offset: int) -> None:
    """See that the output of an ended session is there from a byte on. Raises OutputExpired."""
    with log.database.transaction() as tx:
        if segments.begin(tx, session_id) > offset:
            raise OutputExpired


def seq_before(log: Log, session_id: UUID, offset: int) -> int:
    """Return the seq of an entry before the one that holds a byte position, near enough to read on from there."""
    with log.database.transaction() as tx:
        # The end first: what is stored between the two queries is found by the second one.
        last = segments.last(tx, session_id)[0]
        found = segments.from_offset(tx, session_id, offset, limit=1)
        return found[0].first_seq - 1 if found else last


def whole(log: Log, session_id: UUID) -> Iterator[bytes]:
    """Yield all output there is now, a slice at a time."""
    offset = 0
    while True:
        piece = read(log, session_id, offset, SLICE_BYTES)
        if not piece.data:
            return
        yield piece.data
        offset = piece.next_offset


def size(log: Log, session_id: UUID) -> int:
    """Return how many bytes there are now."""
    return next((entry.end_offset for entry in _backwards(log, session_id) if entry.is_output), 0)


def tail_offset(log: Log, session_id: UUID, lines: int) -> tuple[int, int]:
    """Return (seq to read after, byte offset) of the last `lines` lines; a last line without its end counts."""
    newlines: int | None = None  # still to be passed, going backwards
    for entry in _backwards(log, session_id):
        if not entry.is_output:
            continue
        if newlines is None:  # the newline that ends the last line does not begin one
            newlines = lines + 1 if entry.data.endswith(b"\n") else lines
        position = len(entry.data)
        while newlines and (position := entry.data.rfind(b"\n", 0, position)) >= 0:
            newlines -= 1
        if not newlines:
            start = entry.offset + position + 1
            return (entry.seq if start == entry.end_offset else entry.seq - 1), start
    return 0, 0


def _backwards(log: Log, session_id: UUID) -> Iterator[Entry]:
    """Yield entries from the last one there is now to the first."""
    with log.database.transaction() as tx:
        stored = segments.last(tx, session_id)[0]
    yield from reversed(log.live(session_id, stored))
    before: int | None = None
    while True:
        with log.database.transaction() as tx:
            stretches = segments.backwards(tx, session_id, before_seq=before, limit=STRETCHES_BACK)
        for stretch in stretches:
            if stretch.last_seq <= stored:
                yield from reversed(unpack_all(stretch.blob))
        if not stretches:
            return
        before = stretches[-1].first_seq
