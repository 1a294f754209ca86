"""What is written about single sessions in the background: one thing after the other, and all of it before the end.

A database that is away does not stop a process; how long that may last the lease decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import gevent

from core.errors import DatabaseUnavailable, Fenced
from core.vital import spawn_vital

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from models.database import Database, Transaction
    from runner.live import LiveSession

T = TypeVar("T")

RETRY_SECONDS = 1.0


class Chores:
    """The transactions under way."""

    def __init__(self, database: Database, on_fenced: Callable[[UUID], None]) -> None:
        self._database = database
        self._on_fenced = on_fenced
        self._last: dict[UUID, gevent.Greenlet[Any]] = {}

    def add(self, live: LiveSession, work: Callable[[Transaction], Any]) -> gevent.Greenlet[Any]:
        """Do something about a session after what is under way for it. Callable from the hub."""
        before = self._last.get(live.id)

        def do() -> None:
            if before is not None:
                before.join()
            self.insist(live, work)

        self._last[live.id] = chore = spawn_vital(f"chore of {live.id}", do)
        return chore

    def insist(self, live: LiveSession, work: Callable[[Transaction], T]) -> T | None:
        """Repeat a transaction until it is through; None once the session is not ours any more."""
        while not live.abandoned:
            try:
                with self._database.transaction() as tx:
                    return work(tx)
            except DatabaseUnavailable:
                gevent.sleep(RETRY_SECONDS)
            except Fenced:
                self._on_fenced(live.id)
        return None

    def are_done(self, session_id: UUID) -> bool:
        """Whether nothing is on its way into a session's row."""
        chore = self._last.get(session_id)
        return chore is None or chore.ready()

    def wait(self, session_id: UUID) -> None:
        """Wait until everything asked for is written, what is added meanwhile too."""
        while not self.are_done(session_id):
            self._last[session_id].join()

    def forget(self, session_id: UUID) -> None:
        """The session is over."""
        self._last.pop(session_id, None)
