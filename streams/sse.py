"""Entries as Server-Sent Events. Pure functions from entries to bytes; the same members go into WebSocket messages.

JSON shows bytes that are not UTF-8 as U+FFFD; the `base64` variant shows them exactly.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from streams.entries import EntryKind

if TYPE_CHECKING:
    from uuid import UUID

    from streams.entries import Entry

HEARTBEAT: Final = b": \n\n"
RETRY_MS: Final = 2000
"""How long a client waits before it comes again."""
GOODBYE: Final = b"retry: %d\n: the server is going; come again with the last id\n\n" % RETRY_MS

ALWAYS: Final = frozenset({EntryKind.TERMINATED, EntryKind.GAP})
"""Kinds that no filter holds back: without them a follower would not know what it has."""


def frame(entry: Entry, *, as_base64: bool = False) -> bytes:
    """Return an entry as one event, its seq as the id."""
    data = orjson.dumps(members(entry, as_base64=as_base64))
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (entry.seq, entry.kind.encode(), data)


def members(entry: Entry, *, as_base64: bool = False) -> dict[str, Any]:
    """Return what an entry says, as a flat JSON object."""
    shown = _output(entry, as_base64) if entry.is_output else dict(entry.fields)
    if as_base64 and entry.data and not entry.is_output:  # exactly what its program said
        shown = {"type": shown.get("type"), "line": entry.data.decode(errors="replace")}
    shown["timestamp"] = timestamp(entry.at_ms)
    return shown


def _output(entry: Entry, as_base64: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if as_base64:
        shown["content_base64"] = base64.b64encode(entry.data).decode("ascii")
    else:
        shown["content"] = entry.data.decode("utf-8", errors="replace")
    shown |= {"offset": entry.offset, "bytes": len(entry.data)}
    if (stream := entry.fields["stream"]) != "terminal":  # a terminal has one stream: there is nothing to tell apart
        shown["stream"] = stream
    return shown


def connected(session_id: UUID, at_ms: int) -> bytes:
    """Return the first event of every stream, and how long to wait before coming again. It has no id."""
    data = orjson.dumps({"session_id": str(session_id), "timestamp": timestamp(at_ms)})
    return b"retry: %d\nevent: connected\ndata: %b\n\n" % (RETRY_MS, data)


def stream_error(code: str, detail: str, at_ms: int) -> bytes:
    """Return the event that ends a stream which cannot go on. `error` is EventSource's own name."""
    data = orjson.dumps({"error_code": code, "detail": detail, "timestamp": timestamp(at_ms)})
    return b"event: stream_error\ndata: %b\n\n" % data


def timestamp(at_ms: int) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=16)  # formatting a date costs more than the rest of a frame, and a second has many entries
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
