"""What is published, as each arm wants it: bytes with places for number, stamp and serial, which `load.c` fills in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgpack

from streams import keys
from streams.appender import APPEND, PAYLOAD_BYTES

if TYPE_CHECKING:
    from uuid import UUID

NUMBER: Final = "@@number@@"
STAMP: Final = "@@stamp@@@@@@@@@@@@@"
SERIAL: Final = b"@@serial@@"
BINARY_SERIAL: Final = b"\xc1\xc1\xc1\xc1"
BEFORE_FIRST: Final = 1_000_000_000
"""The serial before the first one: ten digits, as all that follow."""
FENCE: Final = 1
TTL_MS: Final = 3_600_000


def payload(size: int) -> str:
    """Return the text of a message."""
    return f"#n:{NUMBER}:{STAMP}".ljust(size, "x")


def command(*words: str | bytes) -> bytes:
    """Return a Redis command."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def appended(session_id: UUID, size: int) -> bytes:
    """Return the call with which a worker appends one entry of output to a log: stored, then published."""
    fields = msgpack.packb({"offset": 0, "stream": "stdout"})
    entry = (
        b"\x95\xce" + BINARY_SERIAL + msgpack.packb("output") + b"\x00" + fields + msgpack.packb(payload(size).encode())
    )
    head, log = keys.head(session_id), keys.log(session_id)
    return command(
        *("EVALSHA", APPEND.sha1, "2", head, log, str(FENCE), "0", str(TTL_MS), "0"),
        *(keys.bell(session_id), str(PAYLOAD_BYTES), "", SERIAL, entry),
    )


def published(channel: str, size: int) -> bytes:
    """Return a message for whoever subscribes to a Redis channel."""
    return command("PUBLISH", channel, payload(size))


def flask_sse(channel: str, size: int) -> bytes:
    """Return a message as flask-sse's own `publish` makes it."""
    return command("PUBLISH", channel, json.dumps({"data": payload(size), "type": "message"}))


def posted(path: str, size: int) -> bytes:
    """Return a message for nchan."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + payload(size).encode()
