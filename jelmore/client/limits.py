"""How long a client waits, and how often it tries again. Pure: chance is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from random import uniform
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""Who is told to come again later than this is told so, instead of waiting."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one client. No wait of a client is longer than these say.

    The defaults fit the service's: it sends a heartbeat every 15 s, and routers on the way cut requests after 30 s.
    """

    connect_seconds: float = 10.0
    answer_seconds: float = 30.0
    """From a request to the whole answer, beside what the request itself asks the service to wait."""
    silence_seconds: float = 45.0
    """How long a stream may be without a byte, heartbeats included, before it is opened again."""
    retries: int = 4
    """How often a request that failed is sent again: only where that is safe."""
    resumes: int = 20
    """How often in a row a stream is opened again without getting any further: with these pauses about four minutes."""
    pause_seconds: float = 0.5
    """The longest first pause before another try; it doubles each time."""
    longest_pause_seconds: float = 30.0

    def pause(
        self, failures: int, at_least: float = 0.0, *, chance: Callable[[float, float], float] = uniform
    ) -> float:
        """Return how long to wait after so many failures in a row: anything up to the limit, so that not all come at once."""
        # The exponent has a limit of its own: 2.0**1100 is an error.
        return at_least + chance(
            0.0, min(self.longest_pause_seconds, self.pause_seconds * 2.0 ** min(failures - 1, 30))
        )
