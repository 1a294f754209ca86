"""Whether a request that failed is sent again, and when. Pure; the clients do the waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jelmore.client.errors import ApiError, ConnectionFailed
from jelmore.client.limits import LONGEST_RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from jelmore.client.calls import Call
    from jelmore.client.errors import ClientError
    from jelmore.client.limits import Limits

AWAY: Final = frozenset({502, 503, 504})
"""The service, or what it needs, is away for a moment."""
REFUSED_FOR_NOW: Final = frozenset({"RATE_LIMITED", "IDEMPOTENCY_IN_PROGRESS"})
"""Refusals that end by themselves, soon. TOO_MANY_SESSIONS ends when somebody's session does: that is for the caller to judge."""


@dataclass(slots=True)
class Retries:
    """The tries of one request."""

    call: Call[Any]
    limits: Limits
    failures: int = 0

    def pause(self, fault: ClientError) -> float:
        """Return how long to wait before the next try; raise the fault where there is none."""
        self.failures += 1
        if self.failures > self.limits.retries or not self._may_help(fault):
            raise fault
        return self.limits.pause(self.failures, _asked_for(fault))

    def _may_help(self, fault: ClientError) -> bool:
        if isinstance(fault, ConnectionFailed):
            return self.call.repeatable or not fault.sent
        if not isinstance(fault, ApiError) or _asked_for(fault) > LONGEST_RETRY_AFTER_SECONDS:
            return False
        # Refused is refused: what was not begun may be sent again, whatever it is.
        return fault.error_code in REFUSED_FOR_NOW or (self.call.repeatable and fault.status in AWAY)


def _asked_for(fault: ClientError) -> float:
    return (fault.retry_after_seconds or 0.0) if isinstance(fault, ApiError) else 0.0
