"""Waiting longer than one request may: each goes on where the one before ended. Pure but for the clock that is handed in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from jelmore.client.calls import LONGEST_WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jelmore.client.shapes import Until, Waited

FINAL: Final = frozenset({"completed", "terminated", "failed"})
SHORTEST_WAIT_SECONDS: Final = 1.0


@dataclass(slots=True)
class Waiting:
    """One wait. `offset`: the byte of the output to look from."""

    wanted: Until
    offset: int
    timeout_seconds: float
    clock: Callable[[], float] = time.monotonic
    over: bool = False
    _last: Mapping[str, Any] = field(default_factory=dict)
    _seen_ended: bool = False
    _deadline: float = 0.0

    def __post_init__(self) -> None:
        """Begin."""
        self._deadline = self.clock() + self.timeout_seconds

    @property
    def until(self) -> dict[str, Any]:
        """Return the condition as the service takes it."""
        until = {name: value for name, value in self.wanted.items() if value is not None}
        return until | {"status": [until["status"]]} if isinstance(until.get("status"), str) else until

    def seconds(self) -> float:
        """Return how long the next request may wait; a wait for quiet at least as long as the quiet."""
        idle_seconds = float(self.wanted.get("idle_ms", 0)) / 1000
        return min(LONGEST_WAIT_SECONDS, max(SHORTEST_WAIT_SECONDS, idle_seconds, self._deadline - self.clock()))

    def take(self, answer: Mapping[str, Any]) -> None:
        """Note what one request came to."""
        self._last, self.offset = answer, int(answer["next_offset"])
        # An end that is seen for the first time may have come behind the look: an ended session answers at once.
        ended = answer["status"] in FINAL
        hopeless, self._seen_ended = ended and self._seen_ended, ended
        self.over = answer["matched"] or hopeless or self.clock() >= self._deadline

    def outcome(self) -> Waited:
        """Return what the last request came to."""
        return cast("Waited", self._last)
