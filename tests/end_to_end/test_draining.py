"""A worker that is asked to leave ends its sessions, starts nothing, and leaves in time; another one takes what waits."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.service import Service

DEAF = "trap '' TERM; echo deaf; (setsid sleep 61 &); while :; do sleep 0.1; done"
HEARS = "trap 'echo bye; exit 0' TERM; echo hears; sleep 62 & wait"


@pytest.fixture
def two_slots(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    with installed(
        tmp_path_factory.mktemp("drain"), new_database(), WORKER_SLOTS="2", TERMINATE_GRACE_SECONDS="2"
    ) as started:
        started.start("first")
        yield started


@pytest.mark.case(20)
def test_a_worker_that_leaves_ends_its_sessions_and_another_takes_what_waits(two_slots: Service) -> None:
    ada, first = two_slots.ada, two_slots.worker("first")
    running = [ada.create(DEAF), ada.create(HEARS)]
    for session_id in running:
        with ada.follow(session_id) as stream:
            stream.until("output")
    waiting = [ada.create(f"echo {number}") for number in range(3)]
    followed = [ada.follow(session_id) for session_id in running]

    began = time.monotonic()
    first.signal(signal.SIGTERM)
    first.signal(signal.SIGTERM)  # platforms say it more than once
    ends = [stream.until("terminated")[-1].data for stream in followed]
    code = first.wait(10)
    took = time.monotonic() - began

    assert [(end["status"], end["reason"]) for end in ends] == [("terminated", "worker_shutdown")] * 2
    assert ada.output(running[1]) == b"hears\nbye\n"
    assert two_slots.leftovers() == []
    assert (code, took < 10) == (0, True)
    assert {ada.status(session_id) for session_id in waiting} == {"initializing"}

    two_slots.worker("second")
    for number, session_id in enumerate(waiting):
        assert ada.events(session_id)[-1].data["status"] == "completed"
        assert ada.output(session_id) == f"{number}\n".encode()
        assert ada.get(session_id)["worker"] == "second"


@pytest.mark.case(21)
def test_a_worker_leaves_though_redis_is_away(two_slots: Service) -> None:
    ada, first = two_slots.ada, two_slots.worker("first")
    session_id = ada.create("echo here; exec sleep 60")  # a shell that waits prints "Terminated"
    with ada.follow(session_id) as stream:
        stream.until("output")
    two_slots.valkey.pause()
    try:
        began = time.monotonic()
        first.signal(signal.SIGTERM)
        first.wait(12)
        took = time.monotonic() - began
    finally:
        two_slots.valkey.resume()

    assert took < 10
    assert two_slots.leftovers() == []
    eventually(lambda: ada.get(session_id)["reason"] == "worker_shutdown", 5)
    assert ada.output(session_id) == b"here\n"
