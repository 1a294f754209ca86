"""That the suite would find a secret wherever the service wrote one, and what may never hold any is found clean."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import psycopg2
import pytest
import redis

from tests.leaks import Secrets, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jelmore.embedded import Valkey

KEY, TOKEN = "a-key-that-only-this-test-has", "a-token-that-only-this-test-has"


@pytest.fixture
def secrets() -> Secrets:
    """Of these tests alone: what they plant is to be found by nobody else."""
    known = Secrets()
    known.know_settings({"API_KEYS": json.dumps({KEY: {"permissions": ["read"]}})})
    known.know_exchange({"query": "true", "env": {"TOKEN": TOKEN}}, b"{}")
    return known


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url, protocol=2) as opened:
        yield opened
        opened.delete("leak", f"leak:{KEY}", "leak:log")


def places(leaks: object) -> list[str]:
    return [leak.place for leak in leaks]  # type: ignore[attr-defined]


def within(text: str, before: int) -> str:
    """Text in the middle of base64."""
    return base64.b64encode(b"x" * before + text.encode() + b"yz").decode()


@pytest.mark.parametrize("secret", [KEY, TOKEN])
@pytest.mark.parametrize("spelt", ["{}", "key={}&", '{{"a": "{}"}}'])
def test_a_secret_in_a_log_is_found_and_its_place_named(
    secrets: Secrets, tmp_path: Path, secret: str, spelt: str
) -> None:
    (tmp_path / "web.log").write_text("nothing\n" * 10_000 + spelt.format(secret) + "\nnothing")

    (found,) = secrets.in_home(tmp_path)

    assert str(tmp_path / "web.log") in found.place
    assert secret in found.place
    with pytest.raises(AssertionError, match=r"web\.log"):
        refuse([found])


@pytest.mark.parametrize("before", [0, 1, 2, 3, 50])
def test_a_secret_is_found_within_base64(secrets: Secrets, tmp_path: Path, before: int) -> None:
    (tmp_path / "log").write_text(within(KEY, before))

    assert len(list(secrets.in_home(tmp_path))) == 1


def test_what_looks_like_a_key_is_found_whoever_made_it(tmp_path: Path) -> None:
    for name, text in (("one", f"jmr_{'0' * 32}_{'a' * 43}"), ("two", f"x jmr_ticket_{'B' * 43} y")):
        (tmp_path / name).write_text(text)
    (tmp_path / "three").write_text(f"jmr_{'0' * 32}_*** jmr_ticket_***")

    assert len(places(Secrets().in_home(tmp_path))) == 2


@pytest.mark.parametrize("answer", ["key", "ticket"])
def test_what_was_given_out_is_known_and_its_second_half_too(tmp_path: Path, answer: str) -> None:
    known = Secrets()
    known.know_exchange(None, json.dumps({"id": "x", answer: f"jmr_short_{'c' * 20}"}).encode())
    (tmp_path / "log").write_text("c" * 20)

    assert len(list(known.in_home(tmp_path))) == 1


def test_passwords_in_addresses_are_known(tmp_path: Path) -> None:
    known = Secrets()
    known.know_settings(
        {"DATABASE_URL": "postgresql://me:pass%2Fword-1@host/name", "REDIS_URL": "redis://:pass-2@host"}
    )

    assert set(known.ours) == {"pass/word-1", "pass-2"}


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        (
            "INSERT INTO audit (at, actor, action, outcome, detail) VALUES (now(), 'x', 'x', 'ok', '{\"a\": \"%s\"}')",
            "audit",
        ),
        ("INSERT INTO kept_answers VALUES ('s', 'k', '\\x00', 200, 'b', '{\"h\": \"%s\"}', now())", "kept_answers"),
        ("INSERT INTO tickets VALUES ('%s', gen_random_uuid(), '{read}', NULL, 'x', 1, now())", "tickets"),
        ("INSERT INTO housekeeping VALUES ('%s', now())", "housekeeping"),
    ],
)
def test_a_secret_in_any_column_is_found(
    secrets: Secrets, new_database: Callable[[], str], statement: str, table: str
) -> None:
    url = new_database()
    assert list(secrets.in_database(url)) == []
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement % KEY)
    connection.close()

    (place,) = places(secrets.in_database(url))

    assert place.startswith(f"the table {table}")


def test_a_secret_in_redis_is_found_in_names_and_values_and_after_its_end(
    secrets: Secrets, client: redis.Redis, valkey: Valkey
) -> None:
    for plant in (
        lambda: client.set(f"leak:{KEY}", "x"),
        lambda: client.set("leak", f"x{KEY}x"),
        lambda: client.rpush("leak", "x", within(KEY, 7)),
        lambda: client.hset("leak", "field", KEY),
        lambda: client.zadd("leak", {KEY: 1}),
        lambda: client.sadd("leak", KEY),
        lambda: client.xadd("leak", {"e": KEY}),
        lambda: client.set("leak", TOKEN),
    ):
        plant()
        assert len(list(secrets.in_redis(client))) == 1
        client.delete("leak", f"leak:{KEY}")
    assert list(secrets.in_redis(client)) == []
    assert any("appendonly" in place for place in places(secrets.in_home(valkey.directory)))


def test_what_a_session_prints_may_hold_its_own_variables_but_nothing_of_ours(
    secrets: Secrets, client: redis.Redis
) -> None:
    client.xadd("leak:log", {"e": TOKEN})
    assert list(secrets.in_redis(client)) == []
    client.xadd("leak:log", {"e": KEY})
    assert len(list(secrets.in_redis(client))) == 1


def test_files_that_hold_credentials_are_not_looked_through(secrets: Secrets, tmp_path: Path) -> None:
    for name in ("api_key", "valkey.password", "workspaces/x/file", "postgres/data/base/1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(KEY)

    assert list(secrets.in_home(tmp_path)) == []
