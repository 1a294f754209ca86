"""Entries and messages as WebSocket frames: unfragmented, unmasked text, as a server sends them. Pure functions to bytes.

A frame says nothing of its receiver, so one is encoded once for everybody; its members are those of the SSE event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from streams.entries import EntryKind

TEXT: Final = 0x81
"""The last frame of a message (0x80) that is text (0x01)."""
LENGTH_IN_TWO: Final = 126
LENGTH_IN_EIGHT: Final = 127
DATA: Final = b"\ndata: {"


def text(payload: bytes) -> bytes:
    """Return UTF-8 text as a message of one frame."""
    size = len(payload)
    if size < LENGTH_IN_TWO:
        return bytes((TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((TEXT, LENGTH_IN_TWO)) + size.to_bytes(2) + payload
    return bytes((TEXT, LENGTH_IN_EIGHT)) + size.to_bytes(8) + payload


def message(event: str, members: dict[str, Any]) -> bytes:
    """Return a message that is no entry of the log: an answer, or what a socket begins with."""
    return text(orjson.dumps({"event": event, **members}))


def entry(seq: int, kind: EntryKind, event: bytes) -> bytes:
    """Return an entry as a message, made of the SSE event's bytes: encoding the JSON is what costs."""
    members = event[event.index(DATA) + len(DATA) : -2]
    return text(b'{"event":"%b","seq":%d,%b' % (kind.encode(), seq, members))
