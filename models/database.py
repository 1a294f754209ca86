"""The connection to PostgreSQL: one `Database` a process, one transaction a unit of work.

Functions of `models` take the transaction first. Nothing here knows a table. Library errors become ours in one place:
a database that does not answer is `DatabaseUnavailable` to every caller.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session as Transaction
from sqlalchemy.orm import sessionmaker

from core.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry

    from core.settings import Settings

__all__ = ["Database", "Transaction", "install_gevent_wait_callback"]

CONNECT_TIMEOUT_SECONDS = 3
POOL_TIMEOUT_SECONDS = 5
REST_SECONDS = 1.0
RESTS_SINCE = "rests since"
READ_ONLY = "25006"
"""A standby during a fail-over, or a server that protects a full disk: it is there and takes nothing."""
ESTABLISHED = (extensions.STATUS_READY, extensions.STATUS_BEGIN, extensions.STATUS_PREPARED)


class Database:
    """Holds the engine of one process. Opened by the process, never by an import."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Rows stay readable after the commit: routes show what they have just written.
        self._transactions = sessionmaker(engine, expire_on_commit=False)

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        gevent: bool = False,
        pool_size: int | None = None,
        statement_timeout_seconds: float | None = None,
    ) -> Database:
        """Prepare the engine; nothing connects before the first transaction. `gevent` says the process is patched."""
        own_pool = pool_size is not None
        timeout = statement_timeout_seconds or settings.database_statement_timeout_seconds
        if gevent:
            install_gevent_wait_callback(settings.database_statement_timeout_seconds + CONNECT_TIMEOUT_SECONDS)
        engine = create_engine(
            make_url(settings.database_url),
            pool_size=pool_size or settings.database_pool_size,
            max_overflow=0 if own_pool else settings.database_max_overflow,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            # A statement that fails is logged: with what clients type, and the variables of their sessions.
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "application_name": "jelmore",
                # An abandoned query goes on in the server, and the transaction of a process that stands still holds
                # row locks: both end, the latter sooner, so that who waits for such a lock gets it in time.
                "options": f"-c statement_timeout={int(timeout * 1000)} "
                f"-c idle_in_transaction_session_timeout={int(settings.database_statement_timeout_seconds * 600)}",
                # A server that vanished without a word is noticed in about 10 s, not in two hours.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
            },
        )
        ask_after_rest(engine)
        say_no_values(engine)
        return cls(engine)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit what the block did, or nothing. Raises DatabaseUnavailable if the server cannot be asked."""
        try:
            with self._transactions.begin() as tx:
                yield tx
        except (OperationalError, InterfaceError, PoolTimeout) as fault:
            raise DatabaseUnavailable from fault
        except DBAPIError as fault:
            read_only = getattr(fault.orig, "pgcode", None) == READ_ONLY
            if read_only:  # it is the primary no more: new connections may find the one that is
                self.engine.dispose()
            if read_only or fault.connection_invalidated:
                raise DatabaseUnavailable from fault
            raise

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def say_no_values(engine: Engine) -> None:
    """Leave of an error's message its first line: the others show the row, or the piece of the statement, that it is about."""

    @event.listens_for(engine, "handle_error")
    def shorten(context: ExceptionContext) -> None:
        for fault in (context.original_exception, context.sqlalchemy_exception):
            if fault is not None and fault.args:
                fault.args = (str(fault.args[0]).partition("\n")[0], *fault.args[1:])


def ask_after_rest(engine: Engine) -> None:
    """Ask a pooled connection that has not been used for a moment whether it still stands, before it is used.

    What SQLAlchemy does before each use (pool_pre_ping), at the price of a round trip each time. A server that restarts
    under load costs each connection that is in use one error, as it does with the ping.
    """

    @event.listens_for(engine, "checkin")
    def rest(_: object, record: ConnectionPoolEntry) -> None:
        record.info[RESTS_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        since = record.info.get(RESTS_SINCE)
        if since is None or time.monotonic() - since < REST_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as fault:
            raise InvalidatePoolError from fault  # the pool makes a new one, and throws away all that are older


def install_gevent_wait_callback(limit_seconds: float) -> None:
    """Let other greenlets run while psycopg2 waits for the server, at most `limit_seconds` for one answer.

    Without it one query stops the whole process: libpq waits in C. The callback is process-wide, so only processes
    patched by gevent install it. With it libpq's connect_timeout is void, and a stopped server still accepts
    connections: the limit is what ends such a wait.
    """
    from gevent.socket import wait_read, wait_write  # only patched processes have gevent's loop

    def wait(connection: extensions.connection) -> None:
        while (state := connection.poll()) != extensions.POLL_OK:
            await_socket = wait_read if state == extensions.POLL_READ else wait_write
            seconds = limit_seconds if connection.status in ESTABLISHED else CONNECT_TIMEOUT_SECONDS
            silence = psycopg2.OperationalError(f"no answer from PostgreSQL for {seconds:g} s")
            await_socket(connection.fileno(), timeout=seconds, timeout_exc=silence)

    extensions.set_wait_callback(wait)
