"""Writing session logs to Redis: appending, taking a log over, ending it. Reading is `streams.log`.

What is appended is decided by `streams.journal`, when by `streams.writer`. Every operation may be repeated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis
import structlog

from streams import keys
from streams.entries import Entry, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

log = structlog.get_logger(__name__)

PAYLOAD_BYTES: Final = 16 * 1024
"""Most bytes of entries in one doorbell message."""
PAGE: Final = 256
"""Entries read at once from a tail."""


class Refusal(StrEnum):
    """Why Redis did not take a batch, spelled as append.lua answers."""

    STALE = "STALE"
    """Somebody with a higher fence has the session."""
    UNKNOWN = "UNKNOWN"
    """Redis does not know the session: it was flushed, or its keys expired."""
    FAILED = "FAILED"
    """The server did not carry out this one, out of memory for example; the others of the trip may be through."""


Verdict = int | Refusal
"""The seq of the last entry that Redis has, or why it has not got ours."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One session's part of a trip. Without entries it only trims and renews the keys' time to live."""

    session_id: UUID
    fence: int
    entries: Sequence[tuple[int, bytes]]
    may_create: bool = False
    trim_below: int = 0
    claim: str = ""
    """The delivery that won the session; empty: somebody writes in a holder's place."""


class HasTtl(Protocol):
    """The part of the settings that is read here."""

    @property
    def redis_ttl_seconds(self) -> int:
        """How long a session's keys outlive the last append."""

    @property
    def redis_ended_ttl_seconds(self) -> int:
        """How long they outlive the end."""


class _Script:
    """A Lua file beside this module, sent by its hash."""

    def __init__(self, name: str) -> None:
        self.text = Path(__file__).with_name(name).read_text()
        self.sha1 = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


APPEND: Final = _Script("append.lua")
_RAISE_FENCE: Final = _Script("raise_fence.lua")


class Appender:
    """Writes to the logs of any sessions through one client."""

    def __init__(self, client: redis.Redis, settings: HasTtl) -> None:
        self._client = client
        self._ttl_ms = int(settings.redis_ttl_seconds * 1000)
        self._ended_ttl_ms = int(settings.redis_ended_ttl_seconds * 1000)

    def append(self, batches: Sequence[Batch]) -> list[Verdict]:
        """Append all batches in one trip; return a verdict for each. Raises redis.RedisError if nobody answers."""
        calls = [self._arguments(batch, self._ttl_ms) for batch in batches]
        replies = self._run(calls)
        if missing := [at for at, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]:
            self._client.script_load(APPEND.text)
            again = self._run([calls[at] for at in missing])
            for at, reply in zip(missing, again, strict=True):
                replies[at] = reply
        return [_verdict(reply) for reply in replies]

    def end(self, session_id: UUID, fence: int, entries: Iterable[Entry], *, claim: str = "") -> None:
        """Append the final entries, ring, let the keys expire soon.

        Never raises: the end stands in PostgreSQL already, and without this readers see it a second later.
        """
        packed = [(entry.seq, pack(entry)) for entry in entries]
        batch = Batch(session_id, fence, packed, may_create=True, claim=claim)
        try:
            self._evaluate(APPEND, self._arguments(batch, self._ended_ttl_ms))
        except redis.RedisError as fault:
            log.warning("the end of a session was not announced", session_id=str(session_id), error=str(fault))

    def raise_fence(self, session_id: UUID, fence: int) -> int:
        """Shut out a former holder; return the seq of the last entry it appended. Raises redis.RedisError."""
        arguments = [keys.head(session_id), str(fence), str(self._ttl_ms)]
        return int(self._evaluate(_RAISE_FENCE, arguments, number_of_keys=1))

    def tail(self, session_id: UUID, after: int) -> list[Entry]:
        """Return the entries behind `after` that Redis has, up to the first hole. Raises redis.RedisError."""
        return contiguous(self._client, session_id, after)

    def forget(self, session_id: UUID) -> None:
        """Delete a session's keys: what they hold is not the log any more. Raises redis.RedisError."""
        self._client.delete(keys.head(session_id), keys.log(session_id))

    def _run(self, calls: Sequence[list[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for arguments in calls:
            pipeline.evalsha(APPEND.sha1, 2, *arguments)
        return list(pipeline.execute(raise_on_error=False))

    def _evaluate(self, script: _Script, arguments: list[Any], *, number_of_keys: int = 2) -> Any:
        try:
            return self._client.evalsha(script.sha1, number_of_keys, *arguments)
        except redis.exceptions.NoScriptError:
            return self._client.eval(script.text, number_of_keys, *arguments)

    def _arguments(self, batch: Batch, ttl_ms: int) -> list[Any]:
        arguments: list[Any] = [
            keys.head(batch.session_id),
            keys.log(batch.session_id),
            batch.fence,
            int(batch.may_create),
            ttl_ms,
            batch.trim_below,
            keys.bell(batch.session_id),
            PAYLOAD_BYTES,
            batch.claim,
        ]
        for seq, packed in batch.entries:
            arguments += (seq, packed)
        return arguments


def contiguous(client: redis.Redis, session_id: UUID, after: int, max_bytes: int | None = None) -> list[Entry]:
    """Return the entries `after` + 1, + 2, … that Redis has, at least one if there is one, up to `max_bytes`."""
    entries: list[Entry] = []
    size = 0
    while True:
        page: Any = client.xrange(keys.log(session_id), min=f"({after}-0", max="+", count=PAGE)
        for _, fields in page:
            entry = unpack(fields[b"e"])
            if entry.seq != after + 1 or (max_bytes is not None and entries and size + len(entry.data) > max_bytes):
                return entries
            entries.append(entry)
            after, size = entry.seq, size + len(entry.data)
        if len(page) < PAGE:
            return entries


def _verdict(reply: Any) -> Verdict:
    if isinstance(reply, bytes):
        return Refusal(reply.decode())
    if isinstance(reply, int):
        return reply
    if isinstance(reply, redis.ResponseError):
        log.error("Redis refused an append", error=str(reply))
        return Refusal.FAILED
    raise reply
