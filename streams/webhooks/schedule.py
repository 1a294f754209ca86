"""What follows from an attempt: whether a delivery is done, when it is tried again, when it is given up. Decides, does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models.delivery_claims import Outcome, Verdict
from streams.webhooks.posting import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.delivery_claims import Due

GONE: Final = 410
GROWTH: Final = 4.0
LONGEST_SECONDS: Final = 4 * 3600.0
JITTER: Final = (0.8, 1.2)
REMOVED: Final = Answer("removed", "the event was removed after its retention")
LONGEST_REST_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Pauses of 5 s, 20 s, 80 s … up to four hours, each a bit longer or shorter by chance, until the time is over.

    `random`: between two numbers.
    """

    first_seconds: float
    over_seconds: float
    random: Callable[[float, float], float]

    def outcome(self, due: Due, answer: Answer) -> Outcome:
        """Say what follows. A ping is tried once; everything else at least once, however long it has waited."""
        status, words = answer.status, answer.words
        if answer.kind == "delivered":
            return Outcome(Verdict.DELIVERED, status)
        if answer.status == GONE:
            return Outcome(Verdict.GONE, status, "HTTP 410: the receiver wants nothing any more")
        left = self.over_seconds - due.waited_seconds
        if due.is_ping or answer is REMOVED or left <= 0:
            return Outcome(Verdict.DEAD, status, words, rest_seconds=self._rest(answer))
        # The last attempt is at the end of the time, not at some point beyond it.
        pause = max(self.pause_seconds(due.attempts + 1), answer.retry_after_seconds)
        return Outcome(Verdict.AGAIN, status, words, min(pause, left), self._rest(answer))

    def pause_seconds(self, attempts: int) -> float:
        """Return for how long to wait after so many attempts."""
        grown = self.first_seconds * GROWTH ** min(attempts - 1, 20)
        return min(grown, LONGEST_SECONDS) * self.random(*JITTER)

    def _rest(self, answer: Answer) -> float:
        return min(answer.retry_after_seconds, LONGEST_REST_SECONDS, self.over_seconds)
