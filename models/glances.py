"""A look at sessions outside of transactions: one statement, nothing to begin, to commit or to check first.

What is asked most often is how one session is, and a transaction costs eight times the statement. There is no copy that could be
old: every look reads PostgreSQL (docs/decisions/0011).
"""

from __future__ import annotations

import threading
from collections import namedtuple
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from core.errors import DatabaseUnavailable
from models.line import AWAY, connect
from models.tables import Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg2.extensions import connection as Connection  # noqa: N812  (psycopg2 spells classes so)

    from models.database import Database

log = structlog.get_logger(__name__)

COLUMNS: Final = {
    attribute.key: attribute.columns[0].name for attribute in Session.__mapper__.column_attrs if attribute.key != "env"
}
"""Attribute and column, all but the one that is never shown."""
LOOK: Final = f"SELECT {', '.join(COLUMNS.values())} FROM sessions WHERE id = ANY(%s)"  # noqa: S608  (names of ours)


def _row_type(members: list[str]) -> Any:
    return namedtuple("Glance", members)


Glance: Final = _row_type([*COLUMNS])


class Glances:
    """Holds one connection of its own, opened by the first look and again when it broke."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._connection: Connection | None = None
        self._turn = threading.Lock()

    def look(self, ids: Sequence[UUID]) -> dict[UUID, Session]:
        """Return those of the sessions that there are, as they are now. What is not shown to anybody is not in them."""
        with self._turn:
            try:
                return self._look(ids)
            except AWAY as fault:
                stale = self._connection is not None and self._connection.closed
                self.close()
                if not stale:
                    raise DatabaseUnavailable from fault
            self._engine.dispose()  # what rests in the pool has ended with it
            try:  # the server ended a connection that had served us well; it may be back
                return self._look(ids)
            except AWAY as fault:
                self.close()
                raise DatabaseUnavailable from fault

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _look(self, ids: Sequence[UUID]) -> dict[UUID, Session]:
        if self._connection is None:
            self._connection = connect(self._engine)
        with self._connection.cursor() as cursor:
            cursor.execute(LOOK, (list(ids),))
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        glances = (Glance(*row) for row in rows)
        return {glance.id: cast("Session", glance) for glance in glances}
