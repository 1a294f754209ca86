"""A log to append to and to read from: a real Valkey, a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from core.settings import load_settings
from models import openings
from models.database import Database
from models.openings import Caps, NewSession
from streams.appender import Appender
from streams.log import Log
from streams.redis import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import redis

    from core.settings import Settings
    from jelmore.embedded import Valkey


@pytest.fixture
def settings(database_url: str, valkey: Valkey) -> Settings:
    return load_settings({"DATABASE_URL": database_url, "REDIS_URL": valkey.url})


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    opened = connect(settings)
    yield opened
    opened.close()


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = Database.open(settings, pool_size=4)
    yield opened
    opened.close()


@pytest.fixture
def appender(client: redis.Redis, settings: Settings) -> Appender:
    return Appender(client, settings)


@pytest.fixture
def log(client: redis.Redis, database: Database) -> Log:
    return Log(client, database)


@pytest.fixture
def session_id(database: Database) -> UUID:
    with database.transaction() as tx:
        new = NewSession("ada", "key", "shell", "true", 60)
        return openings.open_session(tx, new, Caps(None), at=datetime.now(UTC)).id
