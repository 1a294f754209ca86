"""Caps on sessions that have not ended: exact, however many clients ask at once, and at however many web processes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import httpx2
import pytest

from tests.integration.app.serving import Api, Gunicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PARALLEL: Final = 200
CAP: Final = 50
OWNERS: Final = ("ada", "bob", "eve", "kim")
KEYS: Final = {
    **{f"{owner}-key": {"permissions": ["read", "write"], "name": owner} for owner in OWNERS},
    "capped-key": {"permissions": ["read", "write"], "name": "capped", "max_sessions": 7},
    "root-key": {"permissions": ["admin"], "name": "root"},
}


@pytest.fixture
def two(
    variables: dict[str, str], new_database: Callable[[], str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[list[str]]:
    """Two web processes with a database of their own: all sessions in it count."""
    shared = {**variables, "DATABASE_URL": new_database(), "API_KEYS": json.dumps(KEYS), **request.param}
    served = [Gunicorn(shared, tmp_path / f"log-{name}") for name in ("a", "b")]
    try:
        for gunicorn in served:
            gunicorn.wait()
        yield [gunicorn.url for gunicorn in served]
    finally:
        for gunicorn in served:
            gunicorn.stop()


def create_at_once(urls: list[str], keys: list[str]) -> list[httpx2.Response]:
    """Send a request with each of these keys, all at once, to each of the processes in turn."""
    together = threading.Barrier(len(keys))

    def create(number: int) -> httpx2.Response:
        with httpx2.Client(base_url=urls[number % len(urls)], timeout=60) as client:
            together.wait()
            return Api(client, keys[number]).post("/sessions", {"query": "true"})

    with ThreadPoolExecutor(len(keys)) as threads:
        return list(threads.map(create, range(len(keys))))


def count(urls: list[str], key: str = "root-key") -> int:
    with httpx2.Client(base_url=urls[0], timeout=30) as client:
        return len(Api(client, key).get("/sessions?limit=1000").json())


def assert_refused_well(answers: list[httpx2.Response]) -> None:
    for answer in answers:
        if answer.status_code != 201:
            assert (answer.status_code, answer.json()["error_code"]) == (429, "TOO_MANY_SESSIONS")
            assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("two", [{"MAX_CONCURRENT_SESSIONS": str(CAP)}], indirect=True)
def test_two_hundred_at_once_make_exactly_as_many_as_are_allowed(two: list[str]) -> None:
    answers = create_at_once(two, [f"{OWNERS[number % 4]}-key" for number in range(PARALLEL)])

    assert Counter(answer.status_code for answer in answers) == {201: CAP, 429: PARALLEL - CAP}
    assert_refused_well(answers)
    assert len({answer.json()["session_id"] for answer in answers if answer.status_code == 201}) == CAP == count(two)

    with httpx2.Client(base_url=two[1], timeout=30) as client:  # an end makes room for exactly one
        root = Api(client, "root-key")
        gone = next(answer.json()["session_id"] for answer in answers if answer.status_code == 201)
        assert root.delete(f"/sessions/{gone}").status_code == 200
        statuses = [answer.status_code for answer in create_at_once(two, ["ada-key"] * 10)]
    assert sorted(statuses) == [201, *[429] * 9]


@pytest.mark.parametrize("two", [{"MAX_SESSIONS_PER_OWNER": "10"}], indirect=True)
def test_caps_of_owners_and_keys_are_as_exact(two: list[str]) -> None:
    keys = [("ada-key", "bob-key", "capped-key")[number % 3] for number in range(90)]
    answers = create_at_once(two, keys)

    assert_refused_well(answers)
    made = Counter(key for key, answer in zip(keys, answers, strict=True) if answer.status_code == 201)
    assert made == {"ada-key": 10, "bob-key": 10, "capped-key": 7}
