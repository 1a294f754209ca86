"""Connections that broke while nobody used them."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from core.errors import DatabaseUnavailable
from core.settings import load_settings
from models import database as module
from models.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

HUSH = "hush"


@pytest.fixture
def single(database_url: str) -> Iterator[Database]:
    """A database with one pooled connection."""
    opened = Database.open(load_settings({"DATABASE_URL": database_url}), pool_size=1)
    yield opened
    opened.close()


@pytest.fixture
def other(database_url: str) -> Iterator[Database]:
    opened = Database.open(load_settings({"DATABASE_URL": database_url}), pool_size=1)
    yield opened
    opened.close()


def backend(database: Database) -> int:
    with database.transaction() as tx:
        return int(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_broke_while_it_rested_is_replaced_without_a_word(
    single: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 0.0)
    before = backend(single)
    with other.transaction() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})

    assert backend(single) != before


def test_one_that_broke_in_use_costs_one_error(single: Database, other: Database) -> None:
    before = backend(single)
    started = time.monotonic()
    with other.transaction() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})
    try:
        after = backend(single)
    except DatabaseUnavailable:
        after = backend(single)
    else:
        assert time.monotonic() - started >= module.REST_SECONDS, "it was not asked, and not used either"

    assert after != before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(5), CAST(:value AS text)",
        "SELECT 1 / 0, CAST(:value AS text)",
        "INSERT INTO nothing VALUES (:value)",
        "INSERT INTO housekeeping VALUES (:value, NULL)",
        "INSERT INTO tickets (session_id, key_name) VALUES (:value, :value || nothing)",
    ],
)
def test_no_error_shows_what_a_statement_was_given(database_url: str, statement: str) -> None:
    """Errors are logged, and values are what clients type and the variables of their sessions."""
    settings = load_settings({"DATABASE_URL": database_url})
    database = Database.open(settings, pool_size=1, statement_timeout_seconds=0.2)
    try:
        with pytest.raises(Exception, match=r".") as refused, database.transaction() as tx:
            tx.execute(text(statement), {"value": HUSH})
    finally:
        database.close()

    assert HUSH not in "".join(traceback.format_exception(refused.value))


def test_one_that_broke_while_it_rested_takes_all_older_ones_with_it(
    database_url: str, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Database.open(load_settings({"DATABASE_URL": database_url}), pool_size=2)
    try:
        with pair.transaction() as one, pair.transaction() as two:
            broken = {int(tx.execute(text("SELECT pg_backend_pid()")).scalar_one()) for tx in (one, two)}
        with other.transaction() as tx:
            for pid in broken:
                tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

        monkeypatch.setattr(module, "REST_SECONDS", 0.0)
        with pair.transaction() as tx:
            tx.execute(text("SELECT 1"))  # this one asks, and is told
            monkeypatch.setattr(module, "REST_SECONDS", 60.0)
            assert backend(pair) not in broken  # does not ask
    finally:
        pair.close()


def test_a_server_that_has_become_read_only_is_left(single: Database) -> None:
    before = backend(single)
    with pytest.raises(DatabaseUnavailable), single.transaction() as tx:
        tx.execute(text("SET LOCAL transaction_read_only = on; CREATE TABLE never (id int)"))

    assert backend(single) != before


def test_who_waits_for_the_lock_of_a_process_that_stands_still_gets_it_in_time(database_url: str) -> None:
    settings = load_settings({"DATABASE_URL": database_url, "DATABASE_STATEMENT_TIMEOUT_SECONDS": "2"})
    still, waits = (Database.open(settings, pool_size=1) for _ in range(2))
    lock = text("SELECT pg_advisory_xact_lock(4711)")

    def stand_still() -> None:
        with still.transaction() as stopped:
            stopped.execute(lock)
            with waits.transaction() as tx:
                tx.execute(lock)
            stopped.execute(text("SELECT 1"))

    try:
        with pytest.raises(DatabaseUnavailable):
            stand_still()
    finally:
        still.close()
        waits.close()
