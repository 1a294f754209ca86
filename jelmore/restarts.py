"""When a process that ended is started again, and when that is hopeless. Decides only; the clock is the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A process that ran so long crashed by accident: the next pause is the first one again."""
SETTLED_SECONDS: Final = 5.0
"""A process that ran so long has come up: from then on it is started again for ever, however often it crashes."""
HOPELESS_CRASHES: Final = 5


@dataclass
class Restarts:
    """The crashes of one process. Times are monotonic seconds."""

    crashes: int = 0
    came_up: bool = False
    started: float = 0.0
    ended: bool = False
    start_at: float = 0.0

    def note_start(self, now: float) -> None:
        """It was started."""
        self.started, self.ended = now, False

    def note_running(self, now: float) -> None:
        """It runs."""
        self.came_up = self.came_up or now - self.started >= SETTLED_SECONDS

    def note_end(self, now: float) -> float:
        """It ended by itself; return how long to wait before the next start."""
        self.note_running(now)
        self.crashes = 1 if now - self.started >= STEADY_SECONDS else self.crashes + 1
        self.ended = True
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (self.crashes - 1))
        self.start_at = now + pause
        return pause

    def is_due(self, now: float) -> bool:
        """Whether the pause is over."""
        return self.ended and now >= self.start_at

    @property
    def hopeless(self) -> bool:
        """Whether it never came up and never will."""
        return not self.came_up and self.crashes >= HOPELESS_CRASHES
