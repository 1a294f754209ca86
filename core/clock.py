"""Time as it is handed down: `at` for people and rows, `now` for waiting. Nothing below asks the system itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def at(self) -> datetime:
        """Return the wall clock, aware, UTC."""

    def now(self) -> float:
        """Return monotonic seconds: only differences mean something, and wall-clock jumps change nothing."""


class SystemClock:
    """The machine's clocks."""

    def at(self) -> datetime:
        """Return the wall clock, aware, UTC."""
        return datetime.now(UTC)

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()
