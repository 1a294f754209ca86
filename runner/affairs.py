"""What programs have written about their sessions into PostgreSQL: what they want decided, what outlives their process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import claims, requests, sessions
from models.lifecycle import FINAL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from core.clock import Clock
    from models.database import Transaction
    from models.requests import NewRequest, RequestState
    from runner.chores import Chores
    from runner.live import LiveSession
    from runner.supervision import Stop


class Affairs:
    """Callable from the hub: what is written is written behind what was asked for before, and before the end."""

    def __init__(self, chores: Chores, clock: Clock) -> None:
        self._chores = chores
        self._clock = clock

    def keep(self, live: LiveSession, state: Mapping[str, Any]) -> None:
        """Keep what a later holder must know."""

        def keep(tx: Transaction) -> None:
            session = claims.held(tx, live.id, live.identity.fence)
            session.program_state = {**(session.program_state or {}), **state}

        self._chores.add(live, keep)

    def stopping(self, live: LiveSession, stop: Stop) -> None:
        """Write `terminating` into the row; where a client asked, it stands there already."""

        def mark(tx: Transaction) -> None:
            session = claims.held(tx, live.id, live.identity.fence)
            if session.status not in FINAL:
                at = self._clock.at()
                sessions.ask_to_stop(tx, session, stop.reason, stop.detail, live.identity.origin, at=at)

        self._chores.add(live, mark)

    def asked(self, live: LiveSession, new: NewRequest) -> None:
        """Let everybody know that something is to be decided."""
        at = self._clock.at()

        def ask(tx: Transaction) -> None:
            session = claims.held(tx, live.id, live.identity.fence)
            requests.ask(tx, session, new, live.identity.origin, at=at)

        self._chores.add(live, ask)

    def settled(self, live: LiveSession, request_id: UUID, state: RequestState, message: str | None = None) -> None:
        """Note what became of a request without a client."""
        at, by = self._clock.at(), live.identity.origin.actor
        self._chores.add(live, lambda tx: requests.settle(tx, live.id, {request_id: state}, by, at=at, message=message))
