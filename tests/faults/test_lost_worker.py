"""A worker that is gone, or stands still: no process of its sessions lives, every session ends, every stream too."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.marks import kill
from tasks.queue import SESSIONS as SESSIONS_QUEUE
from tasks.queue import redis_lists
from tests.checks import eventually, how, is_alive, marked, runs
from tests.client import Reader
from tests.programs.shell import ANSWERS, FIRST_LINES, STUBBORN, STUBBORN_PROCESSES, endless, is_numbered_lines

if TYPE_CHECKING:
    from tests.client import Client
    from tests.service import Service

LOST = ("failed", "worker_lost")
GONE_SECONDS = 2.0
"""After that long nothing of a killed worker's sessions lives."""
MANY = 20
CHATTY = 4


def start_stubborn(client: Client, count: int) -> list[str]:
    """Start sessions that no TERM and no environment finds; wait until each has printed and saved its lines."""
    sessions = [client.create(STUBBORN) for _ in range(count)]
    eventually(lambda: all(client.output(session_id) == FIRST_LINES for session_id in sessions), 20, every=0.1)
    return sessions


def assert_lost_but_whole(client: Client, session_id: str, reader: Reader) -> None:
    """The session ended as lost, its stream said so, and its output is what was printed."""
    end = reader.finish()
    shown = client.get(session_id)
    assert how(end) == how(shown) == LOST
    assert (shown["exit_code"], shown["exit_signal"]) == (None, None)
    assert client.output(session_id) == FIRST_LINES


def start_neighbours(service: Service) -> list[str]:
    """Start a second worker and sessions that answer; return those that landed on it."""
    service.worker("two")
    service.wait_ready()
    sessions = [service.ada.create(ANSWERS) for _ in range(4)]

    def landed() -> list[str]:
        shown = [service.ada.get(session_id) for session_id in sessions]
        assert all(map(runs, shown))
        return [each["session_id"] for each in shown if each["worker"] == "two"]

    neighbours = eventually(landed, 10, every=0.1)
    for session_id in sessions:
        if session_id not in neighbours:
            service.ada.delete(session_id)
    return neighbours


def kill_9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.case(1, 26)
def test_kill_9_of_a_worker_with_twenty_sessions_leaves_no_process_and_ends_them_and_no_other(service: Service) -> None:
    ada = service.ada
    sessions = start_stubborn(ada, MANY - CHATTY)
    chatty = [ada.create(endless(0.1)) for _ in range(CHATTY)]
    eventually(lambda: all(runs(ada.get(session_id)) for session_id in chatty))
    readers = [Reader(ada, session_id, limit_seconds=90) for session_id in sessions + chatty]
    neighbours = start_neighbours(service)
    before = [ada.get(session_id) for session_id in neighbours]
    incarnation = service.incarnations("one")[-1]
    eventually(lambda: all(reader.size > len(FIRST_LINES) / 2 for reader in readers))
    assert len(marked([incarnation])) >= (MANY - CHATTY) * STUBBORN_PROCESSES + CHATTY

    service.worker("one").kill()
    seen = [reader.size for reader in readers]
    eventually(lambda: not marked([incarnation]), GONE_SECONDS)
    eventually(
        lambda: all(how(ada.get(each)) == LOST for each in sessions + chatty), service.takeover_seconds, every=0.2
    )

    for session_id, reader in zip(sessions, readers, strict=False):
        assert_lost_but_whole(ada, session_id, reader)
    for session_id, reader, size in zip(chatty, readers[-CHATTY:], seen[-CHATTY:], strict=True):
        assert how(reader.finish()) == LOST
        printed = ada.output(session_id)
        assert is_numbered_lines(printed)
        assert len(printed) == reader.size >= size
    assert_untouched(ada, before)
    assert marked([incarnation]) == []


def assert_untouched(client: Client, before: list[dict[str, Any]]) -> None:
    """These sessions run on, in the same processes, and answer."""
    for shown in before:
        session_id = shown["session_id"]
        now = client.get(session_id)
        assert runs(now)
        assert now["claude_process_id"] == shown["claude_process_id"]
        assert is_alive(int(shown["claude_process_id"]))
        with client.follow(session_id, "?tail=0&events=output") as stream:
            client.input(session_id, "still here")
            assert stream.until("output")[-1].content.endswith(b"got still here\n")


@pytest.mark.case(1)
def test_a_worker_that_comes_back_under_its_name_keeps_nothing_of_its_predecessor(service: Service) -> None:
    ada = service.ada
    sessions = start_stubborn(ada, 2)
    before = service.incarnations("one")[-1]

    service.worker("one").kill()
    service.worker("one")

    eventually(lambda: all(how(ada.get(session_id)) == LOST for session_id in sessions), service.takeover_seconds)
    assert [ada.output(session_id) for session_id in sessions] == [FIRST_LINES] * 2
    assert not marked([before])
    service.wait_ready()
    assert ada.events(ada.create("true"))[-1].data["status"] == "completed"


@pytest.mark.case(2)
def test_a_start_that_a_killed_worker_had_taken_from_the_queue_runs_elsewhere_and_once(service: Service) -> None:
    ada, worker, redis = service.ada, service.worker("one"), service.redis()
    runs = service.home / "runs-of-a-lost-start"
    worker.signal(signal.SIGSTOP)  # it waits for messages: the server hands it the next one all the same
    session_id = ada.create(f"echo run >> {runs}; echo done")
    eventually(lambda: not any(redis.llen(name) for name in redis_lists(SESSIONS_QUEUE)))
    assert ada.status(session_id) == "initializing"
    worker.kill()

    service.worker("two")
    again = service.seconds("RESEND_AFTER_SECONDS") + service.seconds("HOUSEKEEPING_INTERVAL_SECONDS")
    eventually(lambda: ada.status(session_id) == "completed", again + service.takeover_seconds)
    assert runs.read_text() == "run\n"
    assert ada.output(session_id) == b"done\n"
    assert (ada.get(session_id)["worker"], ada.get(session_id)["attempt"]) == ("two", 1)


@pytest.mark.case(19)
def test_a_worker_that_stands_still_loses_its_processes_by_the_lease_and_never_writes_again(service: Service) -> None:
    ada, worker, lease = service.ada, service.worker("one"), service.seconds("LEASE_SECONDS")
    sessions = start_stubborn(ada, 2)
    readers = [Reader(ada, session_id, limit_seconds=90) for session_id in sessions]
    incarnation = service.incarnations("one")[-1]

    worker.signal(signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        assert ada.input(sessions[0], "to nobody").status == 200
        eventually(lambda: not marked([incarnation]), lease + 1)
        assert time.monotonic() - stopped > lease / 2  # the lease did it, not the stop
        for session_id, reader in zip(sessions, readers, strict=True):
            assert_lost_but_whole(ada, session_id, reader)
        service.worker("two")
        service.wait_ready("two")
        later = ada.events(ada.create("true"))[-1].data
        ends = [everything_of(service, session_id) for session_id in sessions]
    finally:
        worker.signal(signal.SIGCONT)

    assert later["status"] == "completed"
    assert worker.wait(10) == 75
    assert [everything_of(service, session_id) for session_id in sessions] == ends
    assert [ada.output(session_id) for session_id in sessions] == [FIRST_LINES] * 2


def plain(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value


def everything_of(service: Service, session_id: str) -> tuple[Any, ...]:
    """Return all that PostgreSQL and Redis have of a session, and how it is shown."""
    tables = {
        "sessions": "SELECT * FROM sessions WHERE id = %s",
        "segments": "SELECT * FROM segments WHERE session_id = %s ORDER BY first_seq",
        "inputs": "SELECT * FROM inputs WHERE session_id = %s ORDER BY input_seq",
        "events": "SELECT * FROM events WHERE session_id = %s ORDER BY id",
    }
    rows = {name: [tuple(map(plain, row)) for row in service.rows(query, session_id)] for name, query in tables.items()}
    redis = service.redis()
    kept = {key: redis.dump(key) for key in redis.scan_iter(f"*{session_id}*")}
    return rows, kept, service.ada.get(session_id)


@pytest.mark.case(3)
def test_kill_9_of_the_keeper_ends_its_sessions_and_the_worker_goes_on(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 3)
    readers = [Reader(ada, session_id, limit_seconds=60) for session_id in sessions]
    incarnation = service.incarnations("one")[-1]
    keeper = service.keeper_of(worker)

    kill_9(keeper)
    eventually(lambda: not marked([incarnation]), GONE_SECONDS)
    ends = [reader.finish() for reader in readers]

    assert [how(end) for end in ends] == [("failed", "keeper_lost")] * 3
    assert [ada.output(session_id) for session_id in sessions] == [FIRST_LINES] * 3
    assert ada.events(ada.create("exit 3"))[-1].data["exit_code"] == 3
    assert worker.alive
    assert service.keeper_of(worker) != keeper


@pytest.mark.case(1, 3)
def test_kill_9_of_worker_and_keeper_together_leaves_nothing_to_the_next_worker(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 2)
    incarnation = service.incarnations("one")[-1]

    worker.signal(signal.SIGSTOP)  # so that it cannot sweep
    kill_9(service.keeper_of(worker))
    worker.kill()
    assert marked([incarnation]), "this test needs something that is left"
    service.worker("one")

    sweep_seconds = service.seconds("SESSION_MONITORING_INTERVAL_SECONDS")
    eventually(lambda: not marked([incarnation]), sweep_seconds + service.takeover_seconds)
    eventually(lambda: all(how(ada.get(session_id)) == LOST for session_id in sessions), service.takeover_seconds)


@pytest.mark.case(54)
def test_sessions_of_a_machine_that_is_gone_with_everything_on_it_end_by_the_lease_alone(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 2)
    readers = [Reader(ada, session_id, limit_seconds=90) for session_id in sessions]
    neighbours = [ada.get(session_id) for session_id in start_neighbours(service)]
    incarnation = service.incarnations("one")[-1]

    keeper = service.keeper_of(worker)
    worker.signal(signal.SIGSTOP)  # nobody notices the others' death
    kill_9(keeper)
    worker.kill()
    for process in marked([incarnation]):
        kill(process)
    gone = time.monotonic()
    for session_id, reader in zip(sessions, readers, strict=True):
        assert_lost_but_whole(ada, session_id, reader)

    silent = service.seconds("LEASE_SECONDS") + service.seconds("LEASE_MARGIN_SECONDS")
    assert time.monotonic() - gone > silent - service.seconds("LEASE_RENEWAL_SECONDS") - 1  # not before its time
    assert_untouched(ada, neighbours)
