"""How one session is, without the price of a transaction: what requests of the same moment ask for is one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.batching import Batching, Silence
from core.errors import DatabaseUnavailable, SessionNotFound
from models.glances import Glances

if TYPE_CHECKING:
    from uuid import UUID

    from core.settings import Settings
    from models.database import Database
    from models.tables import Session

GRACE_SECONDS: Final = 4.0
"""After this and the time a statement may take, PostgreSQL is not waited for: connecting has a limit of its own."""


class Sight:
    """The looks of one web process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._glances = Glances(database)
        self._batches: Batching[UUID, Session | None] = Batching(self._look)
        self._seconds = settings.database_statement_timeout_seconds + GRACE_SECONDS

    def visible(self, session_id: UUID, owner: str | None) -> Session:
        """Return a session the owner may see (None sees every one's), as it was committed when this was called, or later.

        Raises SessionNotFound for another's as for one that never was, and DatabaseUnavailable.
        """
        try:
            session = self._batches.ask(session_id, self._seconds)
        except Silence as fault:
            raise DatabaseUnavailable from fault
        if session is None or (owner is not None and session.owner != owner):
            raise SessionNotFound
        return session

    def close(self) -> None:
        """Let go of the connection."""
        self._glances.close()

    def _look(self, ids: list[UUID]) -> list[Session | None]:
        found = self._glances.look(ids)
        return [found.get(session_id) for session_id in ids]
