"""What an entry of a session's log is, and its bytes. Pure: no Redis, no PostgreSQL, no clock.

An entry is packed as the msgpack array `[seq, kind, at_ms, fields, data]`. msgpack values say where they
end, so a blob is packed entries one after the other, and joining two blobs needs no framing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgpack

LONGEST_TAIL: Final = 3
"""Most bytes a beginning of a UTF-8 character can have without being one."""


class EntryKind(StrEnum):
    """Names as the streams' events spell them."""

    OUTPUT = "output"
    STATUS = "status"
    INPUT = "input"
    RESTARTED = "restarted"
    REQUEST = "request"
    AGENT = "agent"
    GAP = "gap"
    """Made by the reader where history was given up to retention; written only where a log's tail was lost."""
    TERMINATED = "terminated"
    """The last entry of every log."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered item. An output entry has fields `offset` and `stream`, and the exact bytes as data.

    An agent entry's data is the program's own line, from which its fields were read.
    """

    seq: int
    kind: EntryKind
    at_ms: int
    """Wall clock, milliseconds since 1970."""
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""

    @property
    def is_output(self) -> bool:
        """Whether the entry carries bytes of output."""
        return self.kind is EntryKind.OUTPUT

    @property
    def offset(self) -> int:
        """Position of an output entry's first byte in all that was printed."""
        return int(self.fields["offset"])

    @property
    def end_offset(self) -> int:
        """Position behind an output entry's last byte."""
        return self.offset + len(self.data)


def pack(entry: Entry) -> bytes:
    """Return the entry's bytes."""
    packed: bytes = msgpack.packb([entry.seq, str(entry.kind), entry.at_ms, entry.fields, entry.data])
    return packed


def unpack(blob: bytes) -> Entry:
    """Return the one entry in `blob`."""
    return _entry(msgpack.unpackb(blob))


def unpack_all(blob: bytes) -> list[Entry]:
    """Return the entries that were packed one after the other."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(blob) or 1)
    unpacker.feed(blob)
    return [_entry(item) for item in unpacker]


def _entry(item: list[Any]) -> Entry:
    seq, kind, at_ms, fields, data = item
    return Entry(seq, EntryKind(kind), at_ms, fields, data)


def utf8_tail(data: bytes) -> int:
    """Return how many bytes at the end (0..3) begin a UTF-8 character that is not finished.

    For bytes that begin no character it is 0: they are wrong whatever follows, waiting mends nothing.
    """
    for back in range(1, min(LONGEST_TAIL, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # not a continuation: the character's first byte, or none at all
            return back if _length(byte) > back else 0
    return 0


def _length(first: int) -> int:
    """Return how many bytes a character has that begins with this byte; 1 for bytes that begin none."""
    if 0xC2 <= first <= 0xDF:
        return 2
    if 0xE0 <= first <= 0xEF:
        return 3
    return 4 if 0xF0 <= first <= 0xF4 else 1


def timestamp_ms(at: datetime) -> int:
    """Return an aware time as an entry carries it."""
    return int(at.timestamp() * 1000)


def aware(at_ms: int) -> datetime:
    """Return what an entry carries as an aware time, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
