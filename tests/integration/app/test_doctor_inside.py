"""What the inside half of `jelmore doctor` finds of real servers, and what is said of it; and what health tells of the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from app import create_app
from app.doctor.inside import look
from app.web import open_web
from core.clock import SystemClock
from core.ids import uuid7
from core.settings import load_settings
from core.version import build
from jelmore.doctor.facts import Inside, Outside, Reached
from jelmore.doctor.findings import of_inside
from jelmore.doctor.outside import of_outside
from models import schema, workers
from models.database import Database
from models.workers import Arrival
from tests.clock import FakeClock
from tests.leaks import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.clock import Clock
    from jelmore.embedded import Nats, Valkey

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def own(new_database: Callable[[], str]) -> str:
    """A database of the test's own: what is broken in it is nobody else's."""
    return new_database()


@pytest.fixture
def database(own: str) -> Iterator[Database]:
    opened = Database.open(load_settings({"DATABASE_URL": own}), pool_size=1)
    yield opened
    opened.close()


def arrive(database: Database, name: str, version: str) -> None:
    arrival = Arrival(incarnation=uuid7(), name=name, host="here", node=name, pid=1, slots=4, version=version)
    with database.transaction() as tx:
        workers.arrive(tx, arrival, at=datetime.now(UTC))


def said(variables: dict[str, str], clock: Clock | None = None) -> str:
    """Everything that is wrong, seen from inside."""
    facts = look(load_settings(variables), clock or SystemClock())
    return "\n".join(found.says for found in of_inside(Inside.model_validate(facts)) if found.state == "wrong")


def told(variables: dict[str, str]) -> str:
    """Everything that is wrong, as health tells it."""
    web = open_web(load_settings(variables))
    try:
        answer: Any = create_app(world=web).test_client().get("/health").get_json()
    finally:
        web.close()
    seen = Outside(Reached("http://jelmore", None, 200, answer, 0.0))
    return "\n".join(found.says for found in of_outside(seen) if found.state == "wrong")


def test_servers_that_are_down_are_named_each(own: str, valkey: Valkey) -> None:
    down = {"DATABASE_URL": f"postgresql://a:b@{NOWHERE}/x", "REDIS_URL": f"redis://{NOWHERE}/0"}
    found = said(down | {"NATS_URL": f"nats://{NOWHERE}"})
    for sentence in ("PostgreSQL is down", "Redis is down", "NATS is down"):
        assert sentence in found

    found = told(down)
    for sentence in ("PostgreSQL is down", "Redis is down"):
        assert sentence in found


def test_a_wrong_password_is_named_and_not_shown(own: str, valkey: Valkey) -> None:
    parts, redis = urlsplit(own), urlsplit(valkey.url)
    assert parts.password
    assert redis.password
    wrong = {
        "DATABASE_URL": own.replace(parts.password, "not-the-password"),
        "REDIS_URL": valkey.url.replace(redis.password, "nor-is-this-it"),
    }
    for found in (said(wrong), told(wrong)):
        assert "PostgreSQL refuses the user or the password in DATABASE_URL" in found
        assert "Redis refuses the user or the password in REDIS_URL" in found
        assert "not-the-password" not in found
        assert "nor-is-this-it" not in found


def test_no_worker_and_old_code_and_a_pending_migration_are_named(own: str, valkey: Valkey, database: Database) -> None:
    variables = {"DATABASE_URL": own, "REDIS_URL": valkey.url}
    assert "No worker is alive" in said(variables)
    assert "No worker is alive" in told(variables)

    arrive(database, "new", build())
    assert "worker" not in said(variables).lower().replace("no lost worker", "")
    assert told(variables) == ""

    arrive(database, "old", "0.0.1+00000000")
    assert "Worker old on here runs other code (0.0.1+00000000)" in said(variables)
    assert "1 of 2 workers runs other code" in told(variables)

    *_, before, newest = schema.known()
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = :before"), {"before": before})
    assert f"A migration is pending: {newest}." in said(variables)
    assert f"A migration is pending: {newest}." in told(variables)


def test_a_database_without_tables_lacks_every_migration(own: str, valkey: Valkey, database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("DROP TABLE alembic_version"))
    assert f"{len(schema.known())} migrations are pending" in said({"DATABASE_URL": own, "REDIS_URL": valkey.url})


def test_a_clock_that_is_five_minutes_off_is_named(own: str, valkey: Valkey) -> None:
    variables = {"DATABASE_URL": own, "REDIS_URL": valkey.url}
    clock = FakeClock(at=datetime.now(UTC))
    assert "clock" not in said(variables, clock)
    clock.jump(-300)
    assert "This machine's clock is 5 minutes behind PostgreSQL's" in said(variables, clock)


def test_health_compares_the_clocks(own: str, valkey: Valkey) -> None:
    web = open_web(load_settings({"DATABASE_URL": own, "REDIS_URL": valkey.url}))
    clock = FakeClock(at=datetime.now(UTC))
    web.checks._parts = replace(web.checks._parts, clock=clock)
    try:
        assert web.checks.look(["clock"])["clock"].well
        clock.jump(300)
        assert not web.checks.look(["clock"])["clock"].well
    finally:
        web.close()


def test_versions_and_missing_processes_are_told(own: str, valkey: Valkey, nats: Nats) -> None:
    variables = {"DATABASE_URL": own, "REDIS_URL": valkey.url, "NATS_URL": nats.url}
    KNOWN.know_settings(variables)
    facts = Inside.model_validate(look(load_settings(variables), SystemClock()))
    sentences = [found.says for found in of_inside(facts)]

    assert any(sentence.startswith("PostgreSQL 18") for sentence in sentences)
    assert any(sentence.startswith("Valkey 9") for sentence in sentences)
    assert any(sentence.startswith("NATS 2.") for sentence in sentences)
    assert any(sentence.startswith("Housekeeping has never run") for sentence in sentences)
    assert any(sentence.startswith("No mirror is running") for sentence in sentences)
