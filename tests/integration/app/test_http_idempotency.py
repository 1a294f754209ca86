"""Idempotency-Key: a request that is sent again, or twenty times at once, has its effect once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx2
import pytest
from sqlalchemy import text

from app import idempotency as front
from core.ids import uuid7
from models import idempotency
from models.idempotency import Claim
from tests.integration.app.serving import Api, Gunicorn
from tests.proxy import proxied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.web import Web
    from tests.integration.app.holder import Holder

REPLAYED = "Idempotency-Replayed"


@pytest.fixture
def key() -> dict[str, str]:
    """A key nobody has used, as a header."""
    return {"Idempotency-Key": str(uuid7())}


def sessions_of(api: Api, label: str) -> int:
    return len(api.get(f"/sessions?user_id={label}").json())


def test_a_repeat_gets_the_first_answer_again(api: Api, key: dict[str, str], label: str) -> None:
    body = {"query": "true", "user_id": label, "metadata": {"a": 1, "b": [2]}}
    first = api.post("/sessions", body, headers=key)
    again = api.post("/sessions", dict(reversed(body.items())), headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert sessions_of(api, label) == 1


def test_without_the_key_nothing_is_repeated(api: Api, label: str) -> None:
    for _ in range(2):
        assert REPLAYED not in api.post("/sessions", {"query": "true", "user_id": label}).headers
    assert sessions_of(api, label) == 2


def test_the_same_key_for_something_else_is_refused(api: Api, key: dict[str, str], label: str) -> None:
    api.post("/sessions", {"query": "true", "user_id": label}, headers=key)
    other = api.post("/sessions", {"query": "false", "user_id": label}, headers=key)

    assert (other.status_code, other.json()["error_code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert sessions_of(api, label) == 1


def test_another_api_keys_keys_are_its_own(api: Api, key: dict[str, str], label: str) -> None:
    bodies = [
        each.post("/sessions", {"query": "true", "user_id": label}, headers=key) for each in (api, api.as_("bob-key"))
    ]

    assert [answer.json()["owner"] for answer in bodies] == ["ada", "bob"]
    assert REPLAYED not in bodies[1].headers


@pytest.mark.parametrize("bad", ["", "x" * 129, "a\tb"])
def test_a_key_that_is_none_is_refused(api: Api, bad: str, label: str) -> None:
    answer = api.post("/sessions", {"query": "true", "user_id": label}, headers={"Idempotency-Key": bad})

    assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert sessions_of(api, label) == 0


def test_an_unknown_field_is_refused_even_beside_a_key_that_has_its_answer(api: Api, key: dict[str, str]) -> None:
    api.post("/sessions", {"query": "true"}, headers=key)

    assert api.post("/sessions", {"query": "true", "fork": 1}, headers=key).json()["error_code"] == "VALIDATION_FAILED"


def test_a_refusal_is_not_kept(api: Api, key: dict[str, str], roots: Path) -> None:
    body = {"query": "true", "current_directory": str(roots / "later")}
    assert api.post("/sessions", body, headers=key).status_code == 422
    (roots / "later").mkdir(exist_ok=True)
    made = api.post("/sessions", body, headers=key)
    assert (made.status_code, made.headers.get(REPLAYED)) == (201, None)
    # What has its answer keeps it, whatever has become of the directory since.
    (roots / "later").rmdir()
    assert api.post("/sessions", body, headers=key).headers[REPLAYED] == "true"


def test_an_input_is_taken_once_even_after_the_sessions_end(api: Api, holder: Holder, key: dict[str, str]) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    path = f"/sessions/{session_id}/input"
    first = api.post(path, {"input": "yes"}, headers=key)
    run.end()
    again = api.post(path, {"input": "yes"}, headers=key)

    assert (first.status_code, again.status_code, again.headers[REPLAYED]) == (200, 200, "true")
    assert again.json() == first.json()
    assert api.post(path, {"input": "no"}, headers=key).status_code == 422
    assert [row["input_seq"] for row in api.get(f"/sessions/{session_id}/inputs").json()] == [1]
    elsewhere = api.post(f"/sessions/{api.create()}/input", {"input": "yes"}, headers=key)
    assert elsewhere.json()["error_code"] == "IDEMPOTENCY_KEY_REUSED"


def test_twenty_at_once_at_two_processes_make_one_session_and_get_one_answer(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], key: dict[str, str], label: str
) -> None:
    urls = [gunicorns({**variables, "WORKER_NAME": name}).url for name in ("a", "b")]
    together = threading.Barrier(20)

    def send(number: int) -> httpx2.Response:
        with httpx2.Client(base_url=urls[number % 2], timeout=30) as client:
            together.wait()
            return Api(client).post("/sessions", {"query": "true", "user_id": label}, headers=key)

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(send, range(20)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 19
    with httpx2.Client(base_url=urls[0]) as client:
        assert sessions_of(Api(client), label) == 1


def test_who_lost_the_answer_to_a_commit_gets_it_by_asking_again(
    variables: dict[str, str], tmp_path: Path, key: dict[str, str], label: str
) -> None:
    body = {"query": "true", "user_id": label}
    with proxied(variables["DATABASE_URL"]) as proxy:
        gunicorn = Gunicorn({**variables, "DATABASE_URL": proxy.url}, tmp_path / "log")
        try:
            gunicorn.wait()
            with httpx2.Client(base_url=gunicorn.url, timeout=30) as client:
                proxy.lose_reply_to(b"kept_answers", b"COMMIT")
                first = Api(client).post("/sessions", body, headers=key)
                assert first.json()["error_code"] == "DATABASE_UNAVAILABLE"
                assert proxy.replies_lost == 1
                again = Api(client).post("/sessions", body, headers=key)
                assert (again.status_code, again.headers[REPLAYED]) == (201, "true")
                assert sessions_of(Api(client), label) == 1
        finally:
            gunicorn.stop()


def taken(web: Web, key: dict[str, str], release: threading.Event) -> threading.Thread:
    """Be the first with that key until told to go, and leave nothing behind."""
    took = threading.Event()

    def hold() -> None:
        with web.database.transaction() as tx:
            idempotency.look(tx, Claim("ada", key["Idempotency-Key"], b"another"), at=web.clock.at())
            took.set()
            release.wait(30)

    holding = threading.Thread(target=hold)
    holding.start()
    assert took.wait(10)
    return holding


def test_while_the_first_is_at_it_a_second_waits_and_then_does_what_the_first_did_not(
    api: Api, web: Web, key: dict[str, str]
) -> None:
    release = threading.Event()
    holding = taken(web, key, release)
    threading.Timer(0.3, release.set).start()

    answer = api.post("/sessions", {"query": "true"}, headers=key)

    holding.join()
    assert (answer.status_code, answer.headers.get(REPLAYED)) == (201, None)


def test_who_waits_too_long_is_told_to_come_again(
    plain: Api, web: Web, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "WAIT_SECONDS", 0.2)
    release = threading.Event()
    holding = taken(web, key, release)

    answer = plain.post("/sessions", {"query": "true"}, headers=key)

    release.set()
    holding.join()
    assert (answer.status_code, answer.json()["error_code"]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert plain.post("/sessions", {"query": "true"}, headers=key).status_code == 201


def test_after_a_day_a_key_is_free_again(plain: Api, web: Web, key: dict[str, str]) -> None:
    first = plain.post("/sessions", {"query": "true"}, headers=key)
    with web.database.transaction() as tx:
        tx.execute(text("UPDATE kept_answers SET created_at = created_at - interval '24 hours'"))

    other = plain.post("/sessions", {"query": "false"}, headers=key)

    assert (other.status_code, other.headers.get(REPLAYED)) == (201, None)
    assert other.json()["session_id"] != first.json()["session_id"]
    assert plain.post("/sessions", {"query": "false"}, headers=key).headers[REPLAYED] == "true"


def test_old_answers_are_removed_and_young_ones_are_not(plain: Api, web: Web, key: dict[str, str]) -> None:
    plain.post("/sessions", {"query": "true"}, headers=key)
    at = web.clock.at()
    with web.database.transaction() as tx:
        tx.execute(
            text("UPDATE kept_answers SET created_at = now() - interval '25 hours' WHERE key <> :key"),
            {"key": key["Idempotency-Key"]},
        )
        idempotency.forget_old(tx, at=at)
        assert tx.scalars(text("SELECT key FROM kept_answers")).all() == [key["Idempotency-Key"]]
        assert idempotency.forget_old(tx, at=at + timedelta(hours=25)) == 1
