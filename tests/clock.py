"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A `core.clock.Clock`: the wall clock and the monotonic one go on together, unless somebody sets the first."""

    def __init__(self, at: datetime = datetime(2026, 1, 1, tzinfo=UTC), now: float = 1000.0) -> None:
        self._at, self._now = at, now

    def at(self) -> datetime:
        """Return the wall clock."""
        return self._at

    def now(self) -> float:
        """Return monotonic seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0, "monotonic time does not go back"
        self._now += seconds
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock, forward or back: no time passes."""
        self._at += timedelta(seconds=seconds)
