"""What came through one channel, and when: written by the thread that reads it, read by the one that waits for it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jelmore.doctor.facts import Channel, Refusal


@dataclass
class Seen:
    """A stream or a WebSocket from its request on. Times are monotonic seconds."""

    began_at: float = field(default_factory=time.monotonic)
    first_at: float | None = None
    last_at: float | None = None
    text: str = ""
    """All output."""
    sign_at: float | None = None
    """Of the last heartbeat or ping."""
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    closed_at: float | None = None
    refusal: Refusal | None = None
    broke: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    # The reading thread.

    def event(self, kind: str, text: str, number: int | None = None) -> None:
        """Note an event."""
        with self._changed:
            self.last_at = time.monotonic()
            self.first_at = self.first_at or self.last_at
            if kind == "output":
                self.text += text
            if number is not None:
                self.ids.append(number)
            self.ended = self.ended or kind == "terminated"
            self._changed.notify_all()

    def sign(self) -> None:
        """Note a heartbeat or a ping."""
        with self._changed:
            self.sign_at = self.last_at = time.monotonic()
            self._changed.notify_all()

    def close(self, *, refusal: Refusal | None = None, broke: str | None = None) -> None:
        """Note that nothing comes any more, and why."""
        with self._changed:
            self.refusal = refusal
            self.broke = broke if self.first_at is None else None  # later it is a cut, which is told otherwise
            self.closed_at = time.monotonic()
            self._changed.notify_all()

    # The waiting thread.

    def wait(self, until: Callable[[Seen], bool], seconds: float) -> bool:
        """Wait until that is true, or nothing comes any more; return whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed_at is not None or until(self), max(0.0, seconds))
            return until(self)

    def silence(self) -> float | None:
        """Return after how much silence it was cut; None: it was not."""
        if self.closed_at is None or self.ended or self.last_at is None:
            return None
        return self.closed_at - self.last_at

    def tell(self, channel: Channel) -> None:
        """Write down what is so at any time."""
        channel.refusal, channel.broke, channel.encoding = self.refusal, self.broke, self.encoding
        channel.opened_after = None if self.first_at is None else self.first_at - self.began_at
        channel.ended = self.ended
