"""Writes of several requests of one process in one transaction: what comes while one is on its way is the next one.

A commit, a trip and a look at the caps cost the same for one as for many. Each request has its answer when its own row is
committed; what one asks for can neither fail nor hold up another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import psycopg2
import structlog

from app.batching import Batching, Silence
from core.errors import DatabaseUnavailable, TooManySessions
from models.line import Line
from models.mailings import accept_all
from models.openings import open_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from core.settings import Settings
    from models.database import Database
    from models.inputs import Accepted
    from models.mailings import Letter
    from models.openings import Opening

log = structlog.get_logger(__name__)

Question = TypeVar("Question")
Answer = TypeVar("Answer")

AT_ONCE: Final = 32
"""Writes in one transaction. A query may be as long as 128 kB."""
GRACE_SECONDS: Final = 4.0
"""After this and the time a statement may take, PostgreSQL is not waited for: connecting has a limit of its own."""


class Together:
    """The writes of one web process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        # Two lines: creations wait for those of other processes.
        self._line, self._letters_line = Line(database), Line(database)
        self._openings: Batching[Opening, int] = Batching(self._open_all, at_once=AT_ONCE)
        self._letters: Batching[Letter, Accepted | None] = Batching(self._accept_all, at_once=AT_ONCE)
        self._seconds = settings.database_statement_timeout_seconds + GRACE_SECONDS

    def open(self, opening: Opening) -> int:
        """Open a session, and return its place in the queue. Raises TooManySessions and DatabaseUnavailable."""
        return self._ask(self._openings, opening)

    def accept(self, letter: Letter) -> Accepted | None:
        """Accept input; None if this needs a transaction of its own. Raises DatabaseUnavailable."""
        return self._ask(self._letters, letter)

    def close(self) -> None:
        """Let go of the connections."""
        self._line.close()
        self._letters_line.close()

    def _ask(self, batches: Batching[Question, Answer], question: Question) -> Answer:
        try:
            return batches.ask(question, self._seconds)
        except Silence as fault:
            raise DatabaseUnavailable from fault

    def _open_all(self, openings: list[Opening]) -> list[int | Exception]:
        """Return the place of each, or why it has none."""
        answers: dict[UUID, int | Exception] = {}
        while left := [opening for opening in openings if opening.id not in answers]:
            answers |= self._open_some(left)
        return [answers[opening.id] for opening in openings]

    def _open_some(self, openings: list[Opening]) -> Mapping[UUID, int | Exception]:
        """Open all for which there is room. The first that is refused was so rightly; those behind it are to be asked again."""
        try:
            places = open_all(self._line.rows, openings)
        except DatabaseUnavailable as fault:
            return {opening.id: fault for opening in openings}
        except psycopg2.Error as fault:  # one of them is at fault: not the others
            return self._open_some(openings[:1]) if len(openings) > 1 else {openings[0].id: fault}
        refused = [opening.id for opening in openings if opening.id not in places][:1]
        return {**places, **{session_id: TooManySessions() for session_id in refused}}

    def _accept_all(self, letters: list[Letter]) -> list[Accepted | None]:
        try:
            accepted = accept_all(self._letters_line.rows, letters)
        except psycopg2.Error as fault:  # nothing is written; each may find out what it was, by itself
            log.warning("input was not accepted together", error=str(fault))
            accepted = {}
        return [accepted.get(letter.id) for letter in letters]
