"""What comes in over a WebSocket: how much of it, and the whole messages that its frames make."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from wsproto.events import BytesMessage, TextMessage

if TYPE_CHECKING:
    from wsproto.events import Event

MESSAGE_BYTES: Final = 64 * 1024


class TooLarge(Exception):
    """A message has more bytes than one may have."""


class Incoming:
    """The messages of one socket. `rate`: messages and control frames a second."""

    __slots__ = ("_burst", "_filled_at", "_parts", "_rate", "_size", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._tokens = burst
        self._filled_at = time.monotonic()
        self._parts: list[str | bytes] = []
        self._size = 0

    def is_too_much(self, event: Event) -> bool:
        """Count messages, frames or pings; what it costs to read them is the same."""
        if not getattr(event, "frame_finished", True):
            return False
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate) - 1
        self._filled_at = now
        return self._tokens < 0

    def completed(self, event: Event) -> str | bytes | None:
        """Return the message that an event completes. Raises TooLarge."""
        if not isinstance(event, TextMessage | BytesMessage):
            return None
        part = event.data if isinstance(event, TextMessage) else bytes(event.data)
        self._parts.append(part)
        self._size += len(part.encode() if isinstance(part, str) else part)
        if self._size > MESSAGE_BYTES:
            raise TooLarge
        if not event.message_finished:
            return None
        parts, self._parts, self._size = self._parts, [], 0
        return parts[0][:0].join(parts)  # type: ignore[arg-type]  # all of one kind: wsproto sees to it
