"""DELETE: 200 means that nothing of the session lives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.checks import is_alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client import Client
    from tests.service import Service

GRACE_SECONDS = 1.0
DEAF_FAMILY = (
    "trap '' TERM; for i in 1 2 3; do sleep 61 & echo $!; done; setsid sleep 62 & echo $!; echo $$; wait; sleep 63"
)
FAMILY_SIZE = 5


@pytest.mark.case(25)
def test_delete_answers_200_only_when_the_whole_family_is_gone_though_it_ignores_term(ada: Client) -> None:
    session_id = ada.create(DEAF_FAMILY)
    pids: list[int] = []
    with ada.follow(session_id) as stream:
        for event in stream:
            if event.event == "output":
                pids += map(int, event.content.split())
            if len(pids) == FAMILY_SIZE:
                break
    assert all(map(is_alive, pids))

    began = time.monotonic()
    answer = ada.delete(session_id, "?reason=enough")

    assert not any(map(is_alive, pids))
    assert answer.status == 200
    assert answer.json() == {
        "message": "Session terminated successfully",
        "session_id": session_id,
        "reason": "enough",
    }
    assert GRACE_SECONDS * 0.9 < time.monotonic() - began < GRACE_SECONDS + 3
    shown = ada.get(session_id)
    assert (shown["status"], shown["reason"], shown["reason_detail"]) == ("terminated", "requested", "enough")
    assert shown["exit_signal"] == "KILL"


def test_a_program_that_hears_gets_the_grace_to_say_goodbye(ada: Client) -> None:
    session_id = ada.create("trap 'echo bye; exit 3' TERM; echo here; sleep 60 & wait")
    with ada.follow(session_id) as stream:
        stream.until("output")
    answer = ada.delete(session_id)
    end = ada.events(session_id)[-1].data

    assert answer.status == 200
    assert ada.output(session_id) == b"here\nbye\n"
    assert (end["status"], end["reason"], end["exit_code"]) == ("terminated", "requested", 3)


def test_who_does_not_wait_is_told_that_it_was_asked_for(ada: Client) -> None:
    session_id = ada.create("trap '' TERM; echo deaf; sleep 60 & wait; sleep 60")
    with ada.follow(session_id) as stream:
        stream.until("output")
        asked = ada.delete(session_id, "?wait=0")
        kinds = [(event.event, event.data.get("status")) for event in stream]

    assert (asked.status, asked.json()["message"]) == (202, "Session termination requested")
    assert kinds[0] == ("status", "terminating")
    assert kinds[-1] == ("terminated", "terminated")


@pytest.mark.case(34)
def test_deleting_twice_is_deleting_once(ada: Client) -> None:
    session_id = ada.create("sleep 60")
    first = ada.delete(session_id, "?reason=first")
    shown = ada.get(session_id)
    second = ada.delete(session_id, "?reason=second")

    assert (first.status, second.status) == (200, 200)
    assert first.json() == second.json()
    assert ada.get(session_id) == shown


@pytest.mark.case(34)
def test_deleting_what_has_ended_changes_nothing(ada: Client) -> None:
    session_id = ada.create("exit 7")
    ada.events(session_id)
    answer = ada.delete(session_id)
    shown = ada.get(session_id)

    assert answer.status == 200
    assert (shown["status"], shown["reason"], shown["exit_code"]) == ("failed", "exit_code", 7)


@pytest.mark.case(34)
def test_a_queued_session_ends_without_starting(service: Service, tmp_path: Path) -> None:
    slots = 16
    fillers = [service.ada.create("sleep 60") for _ in range(slots)]
    trace = service.home / f"trace-{tmp_path.name}"
    queued = service.ada.create(f"touch {trace}; sleep 60")
    began = time.monotonic()
    answer = service.ada.delete(queued)
    took = time.monotonic() - began
    for filler in fillers:
        service.ada.delete(filler)
    end = service.ada.events(queued)

    # Freed slots take the message of the queued one, too: by now they have.
    service.ada.events(service.ada.create("true"))
    assert answer.status == 200
    assert took < 8  # not the ten seconds that a DELETE waits for a worker
    assert not trace.exists()
    assert [event.event for event in end] == ["connected", "status", "terminated"]
    assert (end[-1].data["status"], end[-1].data["reason"]) == ("terminated", "requested")
    assert service.ada.get(queued)["started_at"] is None
