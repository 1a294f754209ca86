"""The memory of one live session's log at its holder. Pure: no Redis, no PostgreSQL, no clock, no greenlet.

What the session says becomes *drafts*; `form` numbers them into *entries*; entries are appended to Redis,
stored in PostgreSQL, and forgotten once stored. Storing is what counts: an entry that was stored before Redis
took it is never appended, and readers find it in PostgreSQL.

Offsets, counts and the sha256 count bytes in the order of the log. No entry splits a UTF-8 character that is
one: up to three bytes of an unfinished one are held back, until its rest or `flush_held` comes.

Longer than other modules: the drafts and the three positions (formed, appended, stored) are one invariant.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from models.segments import Stretch
from streams.entries import Entry, EntryKind, pack, utf8_tail

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

ENTRY_BYTES: Final = 256 * 1024
"""Most output bytes in one entry."""
TRIP_BYTES: Final = 256 * 1024
"""Most bytes one session puts into one Redis trip, so that a flood does not delay the others."""
STRETCH_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class _Draft:
    """What will be one entry; output of one stream gathers here while the previous trip is under way."""

    kind: EntryKind
    at_ms: int
    fields: dict[str, Any]
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def takes(self, kind: EntryKind, stream: str) -> bool:
        return self.kind is kind and self.fields.get("stream") == stream and self.size < ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class _Formed:
    """An entry as it travels; `end_offset` is where the output stands behind it."""

    seq: int
    blob: bytes
    end_offset: int


class Journal:
    """One session's log from `seq` and `offset` on (both 0 for a first run), written under one fence."""

    def __init__(
        self,
        session_id: UUID,
        fence: int,
        claim: str = "",
        *,
        seq: int = 0,
        offset: int = 0,
        sha256: hashlib._Hash | None = None,
    ) -> None:
        """Begin behind entry `seq` and byte `offset`; `sha256`: of the output before it."""
        self.claim = claim
        self.session_id = session_id
        self.fence = fence
        self.seq = seq
        """Number of the last entry formed."""
        self.formed_offset = offset
        """Bytes of output formed into entries."""
        self.appended_seq = seq
        """Last entry that Redis took, or need not take."""
        self.stored_seq = seq
        self.stored_offset = offset
        self.may_create = True
        """Whether the append may create the head: after the claim, or after the fence was checked again."""
        self.last_output_at_ms: int | None = None
        self.trimmed_below = 0
        """What the last append that Redis answered trimmed."""
        self._sha256 = sha256 or hashlib.sha256()
        self._drafts: deque[_Draft] = deque()
        self._held: dict[str, bytes] = {}
        self._holds = 0
        self._formed: deque[_Formed] = deque()
        self._formed_bytes = 0
        self._unappended: deque[_Formed] = deque()
        self._draft_bytes = 0
        self._offered: Stretch | None = None
        self._tail: deque[tuple[int, int]] = deque()
        self._tail_bytes = 0
        self._trim_below = 0

    # Writing.

    def write_output(self, stream: str, data: bytes, at_ms: int) -> None:
        """Take bytes that the program printed on `stream` (stdout, stderr, terminal)."""
        if not data:
            return
        self.last_output_at_ms = at_ms
        data = self._held.pop(stream, b"") + data
        if held := utf8_tail(data):
            self._held[stream] = data[-held:]
            self._holds += 1
            data = data[:-held]
        self._draft_output(stream, data, at_ms)

    def flush_held(self) -> None:
        """Let go of bytes held back for the rest of a character: it did not come."""
        held, self._held = self._held, {}
        for stream, data in held.items():
            self._draft_output(stream, data, self.last_output_at_ms or 0)

    def write(self, kind: EntryKind, fields: dict[str, Any], at_ms: int, data: bytes = b"") -> None:
        """Take an entry that is not output. `data`: what it was made from, if that is to be kept."""
        self._drafts.append(_Draft(kind, at_ms, fields, [data], len(data)))
        self._draft_bytes += len(data)

    def _draft_output(self, stream: str, data: bytes, at_ms: int) -> None:
        while data:
            draft = self._output_draft(stream, at_ms)
            piece = data[: ENTRY_BYTES - draft.size]
            if len(piece) < len(data):
                # The cut is ours, not the program's: it moves before the character it would split.
                piece = piece[: len(piece) - utf8_tail(piece)]
            if not piece:  # not even one character fits behind what the draft has
                self._drafts.append(_Draft(EntryKind.OUTPUT, at_ms, {"stream": stream}))
                continue
            draft.chunks.append(piece)
            draft.size += len(piece)
            self._draft_bytes += len(piece)
            data = data[len(piece) :]

    def _output_draft(self, stream: str, at_ms: int) -> _Draft:
        if not (self._drafts and self._drafts[-1].takes(EntryKind.OUTPUT, stream)):
            self._drafts.append(_Draft(EntryKind.OUTPUT, at_ms, {"stream": stream}))
        return self._drafts[-1]

    # Forming.

    def form(self) -> None:
        """Number the drafts. From here on an entry is what it is, however often it is sent."""
        while self._drafts:
            draft = self._drafts.popleft()
            self._draft_bytes -= draft.size
            self.seq += 1
            formed = _Formed(self.seq, pack(self._entry(draft)), self.formed_offset)
            self._formed.append(formed)
            self._unappended.append(formed)
            self._formed_bytes += len(formed.blob)

    def _entry(self, draft: _Draft) -> Entry:
        if draft.kind is not EntryKind.OUTPUT:
            return Entry(self.seq, draft.kind, draft.at_ms, draft.fields, b"".join(draft.chunks))
        data = b"".join(draft.chunks)
        self._sha256.update(data)
        fields = {"offset": self.formed_offset, **draft.fields}
        self.formed_offset += len(data)
        return Entry(self.seq, draft.kind, draft.at_ms, fields, data)

    # Redis.

    def to_append(self, max_bytes: int | None = TRIP_BYTES) -> list[tuple[int, bytes]]:
        """Return (seq, packed) of entries that Redis lacks, in order; at least one, if there is one."""
        batch: list[tuple[int, bytes]] = []
        size = 0
        for formed in self._unappended:
            if batch and max_bytes is not None and size + len(formed.blob) > max_bytes:
                break
            batch.append((formed.seq, formed.blob))
            size += len(formed.blob)
        return batch

    def appended(self, last_seq: int, *, trimmed_below: int = 0) -> None:
        """Note that Redis has everything up to `last_seq` that it need have."""
        if size := self._need_not_append(last_seq):
            self._tail.append((last_seq, size))
            self._tail_bytes += size
        self.trimmed_below = max(self.trimmed_below, trimmed_below)
        self.may_create = False

    def _need_not_append(self, last_seq: int) -> int:
        size = 0
        while self._unappended and self._unappended[0].seq <= last_seq:
            size += len(self._unappended.popleft().blob)
        self.appended_seq = max(self.appended_seq, last_seq)
        return size

    def forgotten(self) -> None:
        """Note that Redis has lost the log and the fence is ours: what is unstored is sent again."""
        self.appended_seq = self.stored_seq
        self._unappended = deque(self._formed)
        self._tail.clear()
        self._tail_bytes = 0
        self.may_create = True

    def trim_below(self, tail_limit: int) -> int:
        """Return the first seq to keep, for a Redis tail of `tail_limit` bytes. Never past the stored."""
        while self._tail and self._tail_bytes > tail_limit and self._tail[0][0] <= self.stored_seq:
            last_seq, size = self._tail.popleft()
            self._tail_bytes -= size
            self._trim_below = last_seq + 1
        return self._trim_below

    # PostgreSQL.

    def to_store(self, *, appended_only: bool = False, max_bytes: int = STRETCH_BYTES) -> Stretch | None:
        """Return the next stretch for PostgreSQL, or None.

        The same one is returned until `stored` says that it is there: if the reply to a commit is lost, the
        row that is in the way then is exactly this stretch.
        """
        if self._offered is None:
            self._offered = self._stretch(self._storable(appended_only), self.stored_offset, max_bytes)
        return self._offered

    def stored(self, last_seq: int) -> None:
        """Note that PostgreSQL has everything up to `last_seq`; what it has, Redis need not get any more."""
        while self._formed and self._formed[0].seq <= last_seq:
            formed = self._formed.popleft()
            self._formed_bytes -= len(formed.blob)
            self.stored_offset = formed.end_offset
        self.stored_seq = max(self.stored_seq, last_seq)
        self._need_not_append(last_seq)
        self._offered = None

    def unstored(self, max_bytes: int = STRETCH_BYTES) -> list[Stretch]:
        """Return all that is not stored, as stretches in order, beginning with the one that was offered."""
        stretches = [self._offered] if self._offered else []
        seq, offset = self.stored_seq, self.stored_offset
        while True:
            if stretches:
                seq, offset = stretches[-1].last_seq, stretches[-1].end_offset
            rest = (formed for formed in self._formed if formed.seq > seq)
            if (stretch := self._stretch(rest, offset, max_bytes)) is None:
                return stretches
            stretches.append(stretch)

    def _storable(self, appended_only: bool) -> Iterable[_Formed]:
        return (formed for formed in self._formed if not appended_only or formed.seq <= self.appended_seq)

    def _stretch(self, storable: Iterable[_Formed], first_offset: int, max_bytes: int) -> Stretch | None:
        chosen: list[_Formed] = []
        size = 0
        for formed in storable:
            if chosen and size + len(formed.blob) > max_bytes:
                break
            chosen.append(formed)
            size += len(formed.blob)
        if not chosen:
            return None
        blob = b"".join(formed.blob for formed in chosen)
        last = chosen[-1]
        return Stretch(self.session_id, chosen[0].seq, last.seq, first_offset, last.end_offset, blob)

    # Counters.

    @property
    def offset(self) -> int:
        """Bytes of output taken so far, formed or not."""
        return self.formed_offset + self._draft_bytes + self.held_bytes

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the output formed so far."""
        return self._sha256.hexdigest()

    @property
    def held_bytes(self) -> int:
        """Bytes held back for the rest of a character (at most 3 a stream)."""
        return sum(map(len, self._held.values()))

    @property
    def holds(self) -> int:
        """Grows with each holding back: whoever finds it unchanged after 100 ms calls `flush_held`."""
        return self._holds

    @property
    def unsaved_bytes(self) -> int:
        """Bytes of memory that only PostgreSQL can free: not stored, not formed, held back."""
        return self._formed_bytes + self._draft_bytes + self.held_bytes

    @property
    def unstored_bytes(self) -> int:
        """Bytes formed and not stored."""
        return self._formed_bytes

    @property
    def has_drafts(self) -> bool:
        """Whether there is something to form."""
        return bool(self._drafts)
