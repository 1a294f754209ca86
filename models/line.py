"""A connection outside of the pool for statements that are transactions of their own: one trip each, nothing to begin or commit.

Several statements sent together are one transaction for PostgreSQL, and each sees what was committed before it began.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg2
from psycopg2 import extras
from sqlalchemy.exc import SQLAlchemyError

from core.errors import DatabaseUnavailable
from models.database import READ_ONLY, REST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import connection as Connection  # noqa: N812  (psycopg2 spells classes so)
    from sqlalchemy import Engine

    from models.database import Database

AWAY: Final = (psycopg2.OperationalError, psycopg2.InterfaceError, SQLAlchemyError)


class Line:
    """Holds one connection, opened by the first statement and again when it broke."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._connection: Connection | None = None
        self._turn = threading.Lock()
        self._used_at = 0.0

    def rows(self, statements: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Send statements and return the rows of the last one. Raises DatabaseUnavailable; then nobody knows what was done."""
        with self._turn:
            try:
                with self._ready().cursor() as cursor:
                    cursor.execute(statements, values)
                    rows: list[tuple[Any, ...]] = cursor.fetchall()
            except AWAY as fault:
                self.close()
                raise DatabaseUnavailable from fault
            except psycopg2.Error as fault:
                if fault.pgcode != READ_ONLY:
                    raise
                self.close()
                self._engine.dispose()  # it is the primary no more: new connections may find the one that is
                raise DatabaseUnavailable from fault
            self._used_at = time.monotonic()
            return rows

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ready(self) -> Connection:
        """Return the connection. One that has rested is asked first: a write is not sent twice to find out."""
        if self._connection is not None and time.monotonic() - self._used_at > REST_SECONDS:
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except psycopg2.Error:
                self.close()
                self._engine.dispose()  # what rests in the pool has ended with it
        if self._connection is None:
            self._connection = connect(self._engine)
        return self._connection


def connect(engine: Engine) -> Connection:
    """Return a new connection that commits each statement."""
    pooled = engine.raw_connection()
    connection = cast("Connection", pooled.dbapi_connection)
    pooled.detach()  # the pool has its place back
    connection.autocommit = True
    extras.register_uuid(conn_or_curs=connection)  # type: ignore[no-untyped-call]
    return connection
