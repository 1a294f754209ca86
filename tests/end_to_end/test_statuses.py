"""What a running session is doing, as its row, its stream and its events say: true, and not too often."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually, holds_for
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Client
    from tests.service import Service

IDLE_AFTER = 2.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    """An installation where sessions are idle soon."""
    home = tmp_path_factory.mktemp("statuses")
    with installed(home, new_database(), WORKER_SLOTS="32", SESSION_IDLE_AFTER_SECONDS=str(IDLE_AFTER)) as started:
        started.start("one")
        yield started


@pytest.fixture
def ada(service: Service) -> Client:
    return service.ada


def statuses(ada: Client, session_id: str) -> list[str]:
    """The statuses an ended session went through."""
    return [event.data["status"] for event in ada.events(session_id) if event.event == "status"]


WAITING = (
    "cat",
    "read line; echo $line",
    "sleep 0.3; cat | sort",
    "python3 -c 'input()'",
    "python3 -c 'import select; select.select([0], [], [])'",
    "python3 -c 'import select; p = select.poll(); p.register(0); p.poll()'",
    "python3 -c 'import select; e = select.epoll(); e.register(0, select.EPOLLIN); e.poll()'",
)
NOT_WAITING = ("sleep 60", "cat < /dev/zero > /dev/null", "exec 0<&-; sleep 60", "tail -f /dev/null")


def test_processes_that_wait_for_their_input_are_said_to_and_others_become_idle(ada: Client) -> None:
    waiting = {ada.create(query): query for query in WAITING}
    others = {ada.create(query): query for query in NOT_WAITING}

    eventually(lambda: all(ada.status(session_id) == "waiting_input" for session_id in waiting), 20, every=0.2)
    eventually(lambda: all(ada.status(session_id) == "idle" for session_id in others), 20, every=0.2)
    assert all(ada.status(session_id) == "waiting_input" for session_id in waiting), "waiting wins over idle"
    for session_id in (*waiting, *others):
        ada.delete(session_id, "?wait=0")
    ends = ["terminating", "terminated"]
    for session_id, query in waiting.items():
        assert statuses(ada, session_id) == ["active", "waiting_input", *ends], query
    for session_id, query in others.items():
        assert statuses(ada, session_id) == ["active", "idle", *ends], query


def test_input_and_output_make_it_active_again(ada: Client) -> None:
    session_id = ada.create("while read line; do sleep 1; echo got $line; done")
    eventually(lambda: ada.status(session_id) == "waiting_input", 10)

    ada.input(session_id, "one")
    eventually(lambda: ada.status(session_id) == "active", 5)
    eventually(lambda: ada.status(session_id) == "waiting_input", 10)
    assert ada.output(session_id) == b"got one\n"
    ada.delete(session_id)
    expected = ["active", "waiting_input", "active", "waiting_input", "terminating", "terminated"]
    assert statuses(ada, session_id) == expected


def test_unread_input_is_not_waited_for(ada: Client) -> None:
    session_id = ada.create("sleep 2; read line; exit 5")
    ada.input(session_id, "early")

    end = ada.events(session_id)[-1].data
    assert end["exit_code"] == 5
    assert "waiting_input" not in statuses(ada, session_id)


def test_a_program_that_asks_and_is_answered_quickly_changes_a_few_times_a_second(ada: Client) -> None:
    session_id = ada.create("while read line; do echo $line; sleep 0.15; done")
    for number in range(20):
        ada.input(session_id, str(number))
    ada.request("POST", f"/api/v1/sessions/{session_id}/input", {"input": "last"})
    eventually(lambda: b"last" in ada.output(session_id), 20)
    ada.delete(session_id)

    events = [event for event in ada.events(session_id) if event.event == "status"]
    changes = [event for event in events if event.data["status"] in ("active", "waiting_input")]
    assert all(before.data["status"] != after.data["status"] for before, after in pairwise(changes))
    assert len(changes) < 20


def test_every_change_of_status_is_an_event(service: Service) -> None:
    ada = service.ada
    session_id = ada.create("cat")
    eventually(lambda: ada.status(session_id) == "waiting_input", 10)
    ada.delete(session_id)

    told = "SELECT payload->>'status' FROM events WHERE session_id = %s AND event_type = %s ORDER BY position"
    changes = [status for (status,) in service.rows(told, session_id, "session.status_changed")]
    assert changes == ["active", "waiting_input", "terminating"]


def test_a_session_that_neither_prints_nor_is_spoken_to_is_stopped(ada: Client) -> None:
    quiet = ada.create("sleep 60", idle_timeout_seconds=2)
    talking = ada.create("while :; do echo x; sleep 0.5; done", idle_timeout_seconds=2)
    heard = ada.create("while read x; do :; done", idle_timeout_seconds=2)

    for _ in range(3):
        holds_for(lambda: ada.get(heard)["terminated_at"] is None, 0.8, every=0.2)
        ada.input(heard, "still there")
    end = ada.events(quiet)[-1].data
    assert (end["status"], end["reason"]) == ("terminated", "idle_timeout")
    assert ada.get(quiet)["reason_detail"] == "was idle for 2 s"
    assert ada.get(talking)["terminated_at"] is None
    end = ada.events(heard)[-1].data
    assert (end["status"], end["reason"]) == ("terminated", "idle_timeout")
    ada.delete(talking)


def test_more_time_is_counted_from_now(service: Service) -> None:
    ada = service.ada
    session_id = ada.create("sleep 60", timeout_minutes=1)
    eventually(lambda: ada.status(session_id) == "active", 10)
    before = ada.get(session_id)["expires_at"]

    answer = ada.request("POST", f"/api/v1/sessions/{session_id}/extend", {"timeout_minutes": 30})
    assert answer.status == 200, answer.json()
    assert ada.get(session_id)["expires_at"] > before
    ada.delete(session_id)
