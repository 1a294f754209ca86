"""Reading a session's log, wherever it is: the tail in Redis, what is stored in PostgreSQL.

Rules, each paid for with lost or invented gaps in experiments:
* Redis is asked first, then PostgreSQL, never the other way round: trimming happens only after storing, so what Redis
  no longer has PostgreSQL has by then.
* What follows a position is returned without a hole, or nothing yet. A hole is a `gap` only if PostgreSQL holds a
  later stretch or the session has ended; else it is "not yet", and the reader comes again.
* An ended session is read from PostgreSQL alone.
* A position beyond the last entry of an ended session gets the last entry again.

Safe in a plain thread and under gevent. Writing is `streams.appender`, positions in bytes are `streams.output`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis

from core.errors import DatabaseUnavailable
from models import segments
from streams import keys
from streams.appender import Appender, Batch, Refusal, Verdict, contiguous
from streams.entries import Entry, EntryKind, unpack_all

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

    from models.database import Database, Transaction
    from models.segments import Look, Stretch

__all__ = ["Appender", "Batch", "Log", "Reading", "Refusal", "Verdict", "stored_pages"]

REST_SECONDS: Final = 3.0
READ_BYTES: Final = 1024 * 1024
PAGE_STRETCHES: Final = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """What follows a position, without a hole. No entries and not ended: nothing yet."""

    entries: list[Entry]
    ended: bool
    """Whether nothing follows these entries, ever."""


class Log:
    """Reads the logs of any sessions."""

    def __init__(self, client: redis.Redis, database: Database) -> None:
        self._client = client
        self.database = database
        self._rests_until = 0.0

    def read(self, session_id: UUID, after: int, *, max_bytes: int = READ_BYTES, ended: bool = False) -> Reading:
        """Return what follows entry `after`: about `max_bytes`, at least one entry if there is one.

        `ended` says that the caller knows the session's end is written. Raises DatabaseUnavailable.
        """
        if not ended and (entries := self.live(session_id, after, max_bytes)):
            return Reading(entries, entries[-1].kind is EntryKind.TERMINATED)
        with self.database.transaction() as tx:
            return _stored(tx, session_id, after, max_bytes)

    def live(self, session_id: UUID, after: int, max_bytes: int | None = None) -> list[Entry]:
        """Return what Redis has behind `after`, without a hole; nothing while Redis is away."""
        if time.monotonic() < self._rests_until:
            return []
        try:
            return contiguous(self._client, session_id, after, max_bytes)
        except redis.TimeoutError:
            self._rest()
        except redis.RedisError:
            pass  # PostgreSQL has it within a second
        return []

    def _rest(self) -> None:
        """Redis stands still: for a moment nobody waits for it, PostgreSQL is read alone."""
        self._rests_until = time.monotonic() + REST_SECONDS

    def head(self, session_id: UUID) -> int:
        """Return the seq of the last entry known; 0 for none. Raises DatabaseUnavailable if nobody knows."""
        live = self._live_head(session_id)
        try:
            with self.database.transaction() as tx:
                return max(live, segments.last(tx, session_id)[0])
        except DatabaseUnavailable:
            if live:
                return live
            raise

    def _live_head(self, session_id: UUID) -> int:
        try:
            return _seq(self._client.hget(keys.head(session_id), "seq"))
        except redis.RedisError:
            return 0

    def heads(self, session_ids: Collection[UUID]) -> dict[UUID, int]:
        """Return the seq of the last entry known of each session, in two trips. Raises DatabaseUnavailable if nobody knows."""
        try:
            heads = self.live_heads(session_ids)
        except redis.RedisError:
            heads = dict.fromkeys(session_ids, 0)
        try:
            for session_id, look in self.looks(session_ids).items():
                heads[session_id] = max(heads[session_id], look.last_stored_seq)
        except DatabaseUnavailable:
            if not all(heads.values()):
                raise
        return heads

    def live_heads(self, session_ids: Collection[UUID]) -> dict[UUID, int]:
        """Return the last seq Redis has of each session, in one trip. Raises redis.RedisError."""
        if time.monotonic() < self._rests_until:
            raise redis.TimeoutError("Redis did not answer a moment ago")
        pipeline = self._client.pipeline(transaction=False)
        for session_id in session_ids:
            pipeline.hget(keys.head(session_id), "seq")
        try:
            seqs = pipeline.execute(raise_on_error=False)
        except redis.TimeoutError:
            self._rest()
            raise
        return dict(zip(session_ids, map(_seq, seqs), strict=True))

    def looks(self, session_ids: Collection[UUID]) -> dict[UUID, Look]:
        """Return what PostgreSQL knows of each session, in one query. Raises DatabaseUnavailable."""
        with self.database.transaction() as tx:
            return segments.looked(tx, session_ids)


def _seq(reply: object) -> int:
    return int(reply) if isinstance(reply, bytes) else 0


def _stored(tx: Transaction, session_id: UUID, after: int, max_bytes: int) -> Reading:
    # The look comes first: an end that is written between the two queries must not look like a hole.
    look = segments.looked(tx, [session_id]).get(session_id)
    final_seq = look.final_seq if look else after
    if final_seq is not None and after > max(final_seq - 1, 0):
        after = max(final_seq - 1, 0)
    entries: list[Entry] = []
    size = 0
    for entry in _entries_after(tx, session_id, after):
        if entries and size + len(entry.data) > max_bytes:
            break
        if entry.seq > after + 1 and entry.kind is not EntryKind.GAP:
            entries.append(_gap(after + 1, entry.seq - 1, entry.at_ms))
        entries.append(entry)
        after, size = entry.seq, size + len(entry.data)
    ended = final_seq is not None and after >= final_seq
    if final_seq is not None and not entries:  # everything behind the position was given up to retention
        return Reading([_gap(after + 1, final_seq, 0)] if final_seq > after else [], ended=True)
    return Reading(entries, ended)


def _entries_after(tx: Transaction, session_id: UUID, after: int) -> Iterator[Entry]:
    for stretch in stored_pages(tx, session_id, after):
        for entry in unpack_all(stretch.blob):
            if entry.seq > after:
                yield entry


def stored_pages(tx: Transaction, session_id: UUID, after: int) -> Iterator[Stretch]:
    """Yield stored stretches behind entry `after`, in order, as many a query as there are bytes for."""
    limit = 1
    while True:
        page = segments.after(tx, session_id, after, limit=limit)
        yield from page
        if len(page) < limit:
            return
        after = page[-1].last_seq
        # Stretches are between a few bytes and a MiB: the page just read says which.
        size = sum(len(stretch.blob) for stretch in page) // len(page)
        limit = max(1, min(PAGE_STRETCHES, READ_BYTES // max(size, 1)))


def _gap(first: int, last: int, at_ms: int) -> Entry:
    return Entry(last, EntryKind.GAP, at_ms, {"from": first, "to": last, "reason": "retention"})
