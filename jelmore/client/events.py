"""Server-Sent Events, read from bytes as they come. Pure: no connection, no clock.

Lines end with \\n, or \\r\\n; a lone \\r, which the standard allows as well, the service never sends.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jelmore.client.errors import UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_EVENT_BYTES: Final = 8 * 1024 * 1024
"""An entry has up to 256 KiB of output; JSON makes at most six times as much of it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    `event`: connected, output, status, input, restarted, gap, terminated, stream_error … `id`: the entry's number; None for what
    is no entry. `data`: its members.
    """

    event: str
    data: dict[str, Any]
    id: int | None = None
    source: str = field(default="", repr=False)
    """The event as it was sent, without the empty line that ends it."""

    @property
    def text(self) -> str:
        """The text of an `output` event; nothing for others."""
        if "content_base64" in self.data:
            return self.content.decode(errors="replace")
        return str(self.data.get("content", ""))

    @property
    def content(self) -> bytes:
        """The bytes of an `output` event; nothing for others. Exact whatever they are if asked for with encoding="base64"."""
        if "content_base64" in self.data:
            return base64.b64decode(self.data["content_base64"])
        return self.text.encode()


class Parser:
    """Cuts a stream's bytes into events. What is left of an event at the end of a connection is no event."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete with these bytes. Raises UnreadableAnswer."""
        head, newline, rest = chunk.rpartition(b"\n")
        self._size += len(chunk)
        if newline:
            whole = b"".join((*self._pending, head))
            self._pending = [rest]
            for line in whole.split(b"\n"):
                yield from self._line(line.removesuffix(b"\r"))
            self._size = len(rest) + sum(map(len, self._lines))
        else:
            self._pending.append(chunk)
        if self._size > LARGEST_EVENT_BYTES:
            raise UnreadableAnswer(f"An event of the stream is larger than {LARGEST_EVENT_BYTES} bytes.")

    def _line(self, line: bytes) -> Iterator[Event]:
        if line:
            if not line.startswith((b":", b"retry:")):
                self._lines.append(line)
            return
        lines, self._lines = self._lines, []
        if lines and (event := _event(lines)):
            yield event


def _event(lines: list[bytes]) -> Event | None:
    """Return the event of these lines; None for one without data."""
    kind, seq, data = "message", None, []
    for line in lines:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value.decode(errors="replace")
        elif name == b"id" and value.isdigit():
            seq = int(value)
    if not data:
        return None
    source = b"\n".join(lines).decode(errors="replace")
    return Event(kind, _members(b"\n".join(data)), seq, source)


def _members(data: bytes) -> dict[str, Any]:
    try:
        members = json.loads(data)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise UnreadableAnswer(f"An event of the stream is no JSON object: {data[:100]!r}")
    return members
