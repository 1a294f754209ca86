"""A database with the tables in it, and sessions to play with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from core.ids import uuid7
from core.settings import load_settings
from models import openings, workers
from models.database import Database
from models.openings import Caps, NewSession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from models.tables import Session

NO_CAPS = Caps(None)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database.open(load_settings({"DATABASE_URL": database_url}), pool_size=20)
    yield opened
    opened.close()


@pytest.fixture
def at() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def new_session(database: Database, at: datetime) -> Callable[..., Session]:
    def make(owner: str = "ada", query: str = "true") -> Session:
        with database.transaction() as tx:
            return openings.open_session(tx, NewSession(owner, "key", "shell", query, 60), NO_CAPS, at=at)

    return make


@pytest.fixture
def new_worker(database: Database, at: datetime) -> Callable[..., UUID]:
    def make(name: str | None = None) -> UUID:
        incarnation = uuid7()
        arrival = workers.Arrival(incarnation, name or str(incarnation), "host", f"{incarnation}@host", 1, 8, "0")
        with database.transaction() as tx:
            workers.arrive(tx, arrival, at=at)
        return incarnation

    return make
