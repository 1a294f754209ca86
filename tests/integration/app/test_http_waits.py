"""POST wait: answered when something has come true, once it cannot any more, or when the time is over."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from core.ids import uuid7
from models.lifecycle import Reason
from tests.checks import eventually, holds_for
from tests.integration.app.serving import Api, Gunicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from uuid import UUID

    from tests.integration.app.holder import Holder, Run

SECONDS = 15


def wait(api: Api, session_id: UUID, until: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = api.post(f"/sessions/{session_id}/wait", {"until": until, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == {"matched", "offset", "text", "next_offset", "status"}
    return body


@pytest.fixture
def run(api: Api, holder: Holder) -> Run:
    return holder.run(api.create())


@pytest.fixture
def waiting(api: Api) -> Iterator[Callable[..., Future[dict[str, Any]]]]:
    """Wait in a thread: for as long as may be, so that what is answered before is answered because it came true."""
    with ThreadPoolExecutor(4) as aside:

        def begin(session_id: UUID, until: dict[str, Any], **more: Any) -> Future[dict[str, Any]]:
            future = aside.submit(wait, api, session_id, until, **{"timeout_seconds": SECONDS, **more})
            holds_for(lambda: True, 0.3)  # it has begun by now, or begins later and sees the same
            return future

        yield begin


# Text and patterns.


@pytest.mark.parametrize("until", [{"text": "bc\n"}, {"regex": "[b]c\\n"}])
def test_what_was_printed_before_is_found(api: Api, run: Run, until: dict[str, str]) -> None:
    for piece in (b"ab", "ä".encode(), b"ab", b"c", b"\nabc\n"):
        run.write(piece)

    first = wait(api, run.session_id, until)
    second = wait(api, run.session_id, until, from_offset=first["next_offset"])

    assert first == {"matched": True, "offset": 5, "text": "bc\n", "next_offset": 8, "status": "active"}
    assert second == {"matched": True, "offset": 9, "text": "bc\n", "next_offset": 12, "status": "active"}


@pytest.mark.parametrize("until", [{"text": "done"}, {"regex": "d.ne"}])
def test_what_is_printed_during_the_wait_is_found(
    run: Run, waiting: Callable[..., Future[dict[str, Any]]], until: dict[str, str]
) -> None:
    run.write(b"do")
    answer = waiting(run.session_id, until)
    assert not answer.done()
    run.write(b"ne, all ")

    assert answer.result(SECONDS) == {
        "matched": True,
        "offset": 0,
        "text": "done",
        "next_offset": 4,
        "status": "active",
    }


def test_a_session_that_has_not_started_can_be_waited_for(
    api: Api, holder: Holder, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    session_id = api.create()
    text, active = waiting(session_id, {"text": "hello"}), waiting(session_id, {"status": ["active", "idle"]})
    run = holder.run(session_id)
    run.tell("active")
    run.write(b"hello")

    assert text.result(SECONDS)["matched"]
    assert (active.result(SECONDS)["matched"], active.result()["status"]) == (True, "active")


def test_a_wait_that_is_over_says_where_the_next_one_begins_to_miss_nothing(api: Api, run: Run) -> None:
    run.write(b"a long line, and a beginning: he")
    text = wait(api, run.session_id, {"text": "hello"}, timeout_seconds=1)
    pattern = wait(api, run.session_id, {"regex": "hel+o"}, timeout_seconds=1, from_offset=2)
    run.write(b"llo")

    assert text == {"matched": False, "offset": None, "text": None, "next_offset": 28, "status": "active"}
    assert (pattern["matched"], pattern["next_offset"]) == (False, 2)
    for until, before in (({"text": "hello"}, text), ({"regex": "hel+o"}, pattern)):
        found = wait(api, run.session_id, until, from_offset=before["next_offset"])
        assert (found["matched"], found["offset"]) == (True, 30)


def test_bytes_that_are_no_text_are_shown_as_such(api: Api, run: Run) -> None:
    run.write(b"\xff\xfe(\xff)")

    found = wait(api, run.session_id, {"regex": r"\(\C\)"})
    assert (found["offset"], found["text"], found["next_offset"]) == (2, "(\ufffd)", 5)


def test_much_output_is_looked_through(api: Api, run: Run) -> None:
    for at in range(8):
        run.write(b"%03d" % at + b"x" * 128 * 1024)
    run.write(b"needle")

    for until in ({"text": "needle"}, {"regex": "n.*e"}, {"regex": r"[ay]{0,900}n\w+e"}):
        assert wait(api, run.session_id, until)["offset"] == 8 * (3 + 128 * 1024)


def test_many_small_pieces_are_looked_through(run: Run, waiting: Callable[..., Future[dict[str, Any]]]) -> None:
    answers = [waiting(run.session_id, until) for until in ({"text": "1999\n"}, {"regex": "(?m)^1999$"})]
    for number in range(2000):
        run.write(b"%d\n" % number)

    assert {answer.result(SECONDS)["text"].strip() for answer in answers} == {"1999"}


# The end.


@pytest.mark.parametrize("until", [{"exit": True}, {"status": ["completed", "failed"]}])
def test_the_end_is_waited_for(
    api: Api, run: Run, waiting: Callable[..., Future[dict[str, Any]]], until: dict[str, Any]
) -> None:
    run.write(b"abc")
    answer = waiting(run.session_id, until)
    assert not answer.done()
    run.write(b"de")
    run.end(Reason.EXIT_CODE, exit_code=3)

    over = {"matched": True, "offset": None, "text": None, "next_offset": 5, "status": "failed"}
    assert answer.result(SECONDS) == over
    assert wait(api, run.session_id, until) == over


@pytest.mark.parametrize("until", [{"text": "never"}, {"regex": "n.ver"}, {"status": ["idle"]}, {"idle_ms": 9000}])
def test_what_cannot_come_true_any_more_is_answered_at_once(
    api: Api, run: Run, waiting: Callable[..., Future[dict[str, Any]]], until: dict[str, Any]
) -> None:
    run.write(b"abc")
    run.tell("idle", "active")
    answer = waiting(run.session_id, until)
    assert not answer.done()
    run.end()

    assert (answer.result(SECONDS)["matched"], answer.result()["status"]) == (False, "completed")
    assert wait(api, run.session_id, until)["matched"] is False


def test_a_wait_from_behind_the_end_of_an_ended_session_is_refused(api: Api, run: Run) -> None:
    run.write(b"abc")
    run.end()

    refused = api.post(f"/sessions/{run.session_id}/wait", {"until": {"text": "x"}, "from_offset": 4})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "INVALID_POSITION")
    assert wait(api, run.session_id, {"text": "x"}, from_offset=3)["next_offset"] == 3


# Statuses.


def test_a_status_that_is_so_is_answered_at_once(api: Api, run: Run) -> None:
    assert wait(api, run.session_id, {"status": ["active"]})["status"] == "active"
    run.tell("idle")  # the row says so a moment later
    assert wait(api, run.session_id, {"status": ["idle"]})["status"] == "idle"


def test_a_status_that_came_and_went_counts(run: Run, waiting: Callable[..., Future[dict[str, Any]]]) -> None:
    run.tell("active")
    answer = waiting(run.session_id, {"status": ["waiting_input"]})
    assert not answer.done()
    run.tell("waiting_input", "active")

    assert (answer.result(SECONDS)["matched"], answer.result()["status"]) == (True, "waiting_input")


def test_a_status_that_went_before_the_wait_does_not_count(api: Api, run: Run) -> None:
    run.tell("idle", "active")

    answer = wait(api, run.session_id, {"status": ["idle"]}, timeout_seconds=1)
    assert (answer["matched"], answer["status"]) == (False, "active")


def test_a_session_asked_to_end_is_terminating_and_nothing_else(api: Api, run: Run) -> None:
    run.tell("active")
    api.delete(f"/sessions/{run.session_id}?wait=0")

    assert wait(api, run.session_id, {"status": ["terminating"]})["matched"]
    assert not wait(api, run.session_id, {"status": ["active"]}, timeout_seconds=1)["matched"]


# Quiet.


def test_quiet_begins_with_the_wait_or_the_last_output(
    run: Run, waiting: Callable[..., Future[dict[str, Any]]]
) -> None:
    run.write(b"abc")
    answer = waiting(run.session_id, {"idle_ms": 1500})
    for _ in range(5):
        holds_for(lambda: not answer.done(), 0.4)
        run.write(b"x")

    assert answer.result(SECONDS) == {
        "matched": True,
        "offset": None,
        "text": None,
        "next_offset": 8,
        "status": "active",
    }


def test_what_has_not_started_is_not_quiet(api: Api) -> None:
    assert not wait(api, api.create(), {"idle_ms": 1}, timeout_seconds=1)["matched"]


# Who may, and what.


def test_waiting_needs_sight_of_the_session(api: Api, run: Run) -> None:
    body = {"until": {"exit": True}, "timeout_seconds": 1}
    for path, key in ((run.session_id, "bob-key"), (uuid7(), "ada-key")):
        answer = api.as_(key).post(f"/sessions/{path}/wait", body)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "SESSION_NOT_FOUND")
    assert api.as_("root-key").post(f"/sessions/{run.session_id}/wait", body).status_code == 200


def test_a_pattern_that_is_none_is_refused_with_the_reason(api: Api, run: Run) -> None:
    for pattern, words in (("a(", "missing )"), ("(?=a)", "invalid perl operator"), (r"\pL{900}", "too large")):
        answer = api.post(f"/sessions/{run.session_id}/wait", {"until": {"regex": pattern}})
        (fault,) = answer.json()["errors"]
        assert (answer.status_code, fault["loc"]) == (422, ["until", "regex"])
        assert words in fault["msg"]


def manager(client: httpx2.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/health").json()["infrastructure"]["websocket_manager"]
    return found


@contextmanager
def process(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], **more: str) -> Iterator[Api]:
    with httpx2.Client(base_url=gunicorns({**variables, **more}).url, timeout=30) as client:
        yield Api(client)


def test_waits_take_the_places_of_streams(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], holder: Holder
) -> None:
    with process(variables, gunicorns, MAX_STREAMS="1") as api, ThreadPoolExecutor(1) as aside:
        run = holder.run(api.create())
        first = aside.submit(wait, api, run.session_id, {"text": "x"}, timeout_seconds=SECONDS)
        assert eventually(lambda: manager(api.client)["stats"]["total_connections"] == 1, SECONDS)
        second = api.post(f"/sessions/{run.session_id}/wait", {"until": {"exit": True}})
        run.write(b"x")

        assert (second.status_code, second.json()["error_code"]) == (503, "TOO_MANY_STREAMS")
        assert first.result(SECONDS)["matched"]
        assert wait(api, run.session_id, {"text": "x"})["matched"]


HEAVY = "[ab]{0,900}[ab]{0,900}c"
"""A pattern that takes a second for a few hundred KiB of what it does not match."""


def test_a_heavy_pattern_delays_nobody_and_is_left_at_the_deadline(gevent: Api, holder: Holder) -> None:
    run = holder.run(gevent.create())
    for _ in range(32):
        run.write(b"ab" * 64 * 1024)
    others = 0
    with ThreadPoolExecutor(4) as aside:
        heavy = [aside.submit(wait, gevent, run.session_id, {"regex": HEAVY}, timeout_seconds=2) for _ in range(4)]
        while not all(each.done() for each in heavy):
            assert wait(gevent, run.session_id, {"text": "bab"})["offset"] == 1
            assert wait(gevent, run.session_id, {"regex": "a+b"}, from_offset=32 * 128 * 1024 - 2)["matched"]
            others += 1

    assert others, "nobody else was answered while the heavy ones ran"
    assert [each.result()["matched"] for each in heavy] == [False] * 4
    for each in heavy:  # where to go on is known all the same
        assert 0 <= each.result()["next_offset"] <= 32 * 128 * 1024


def test_a_process_that_leaves_answers_its_waits(variables: dict[str, str], tmp_path: Path, holder: Holder) -> None:
    gunicorn = Gunicorn(variables, tmp_path / "log", config="gunicorn.conf.py")
    try:
        gunicorn.wait()
        with httpx2.Client(base_url=gunicorn.url, timeout=30) as client, ThreadPoolExecutor(1) as aside:
            api = Api(client)
            run = holder.run(api.create())
            run.write(b"abc")
            answer = aside.submit(wait, api, run.session_id, {"text": "x"}, timeout_seconds=25)
            assert eventually(lambda: manager(client)["stats"]["total_connections"] == 1, SECONDS)
            gunicorn.process.send_signal(signal.SIGTERM)

            assert answer.result(SECONDS)["matched"] is False
            assert answer.result()["next_offset"] == 3
    finally:
        gunicorn.stop()
