"""Starting: once, however often it is said; in turn, as many at a time as there are slots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from core.settings import load_settings
from tasks.queue import TaskQueue, make_app
from tests.checks import eventually, holds_for
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Client
    from tests.service import Service

DELIVERIES = 20
SLOTS, SESSIONS = 3, 8


@pytest.mark.case(23)
def test_twenty_deliveries_of_one_start_run_one_process(service: Service) -> None:
    spawns = service.home / "spawns"
    settings = load_settings(service.env())
    app = make_app(settings)
    queue = TaskQueue(app)
    session_id = service.ada.create(f"echo run >> {spawns}; sleep 1; echo done")
    try:
        assert all(queue.start(UUID(session_id)) for _ in range(DELIVERIES))
        end = service.ada.events(session_id)[-1].data
        assert all(queue.start(UUID(session_id)) for _ in range(DELIVERIES))
    finally:
        app.close()
    # When a later session has run, every delivery was taken: the queue is first in, first out.
    service.ada.events(service.ada.create("true"))

    assert spawns.read_text() == "run\n"
    assert end["status"] == "completed"
    assert service.ada.output(session_id) == b"done\n"
    assert service.ada.get(session_id)["attempt"] == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    """An installation whose one worker has three slots."""
    with installed(tmp_path_factory.mktemp("small"), new_database(), WORKER_SLOTS=str(SLOTS)) as started:
        started.start("one")
        yield started


def by_status(client: Client, sessions: list[str]) -> dict[str, list[str]]:
    """Group sessions by status, in their order. One that waits for input runs."""
    grouped: dict[str, list[str]] = {}
    for session_id in sessions:
        status = client.status(session_id)
        grouped.setdefault("active" if status == "waiting_input" else status, []).append(session_id)
    return grouped


def test_as_many_run_as_there_are_slots_and_the_others_wait_their_turn(small: Service) -> None:
    ada = small.ada
    order = small.home / "order"
    query = f"echo NUMBER >> {order}; while read line; do [ $line = end ] && exit 0; echo got $line; done"
    sessions = [ada.create(query.replace("NUMBER", str(number))) for number in range(SESSIONS)]

    def first_three_run() -> bool:
        grouped = by_status(ada, sessions)
        return grouped == {"active": sessions[:SLOTS], "initializing": sessions[SLOTS:]}

    eventually(first_three_run, 10)
    holds_for(first_three_run, 1.0, every=0.2)
    for session_id in sessions[:SLOTS]:
        assert_answers_soon(ada, session_id)
    for number, session_id in enumerate(sessions):
        ada.input(session_id, "end")
        assert ada.events(session_id)[-1].data["status"] == "completed", number

    started = [int(number) for number in order.read_text().split()]
    assert sorted(started[:SLOTS]) == list(range(SLOTS))  # together: who writes first is not ours to say
    assert started[SLOTS:] == list(range(SLOTS, SESSIONS))
    assert small.leftovers() == []


def assert_answers_soon(ada: Client, session_id: str) -> None:
    """Input to a running session is answered, though the others wait for as long as this one runs."""
    with ada.follow(session_id, "?events=output") as stream:
        ada.input(session_id, "hello")
        assert stream.until("output")[-1].content == b"got hello\n"


def test_a_freed_slot_is_filled_at_once(small: Service) -> None:
    ada = small.ada
    running = [ada.create("sleep 60") for _ in range(SLOTS)]
    for session_id in running:
        with ada.follow(session_id) as stream:
            stream.until("status")
    waiting = ada.create("echo started")
    with ada.follow(waiting) as stream:
        assert ada.delete(running[0]).status == 200
        freed = time.monotonic()
        started = stream.until("output")[-1]
    for session_id in running[1:]:
        ada.delete(session_id)

    assert started.at - freed < 5
