"""A worker that is gone, or stands still: no process of its sessions lives, every session ends, every stream too."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.checks import eventually, marked
from tests.client import Reader

if TYPE_CHECKING:
    from tests.client import Client
    from tests.service import Service

LEASE_SECONDS = 3.0
TAKEOVER_SECONDS = 10.0
PRINTED = b"".join(b"line %d\n" % number for number in range(1, 21))
STUBBORN = """
trap '' TERM
(setsid sh -c "trap '' TERM; (trap '' TERM; while :; do sleep 0.2; done) & exit" &)
(env -i setsid sh -c "trap '' TERM; while :; do sleep 0.2; done" &)
for i in $(seq 20); do echo line $i; done
while :; do sleep 0.2; done
"""
LOST = ("failed", "worker_lost")


def start_stubborn(client: Client, count: int) -> list[str]:
    """Start sessions that no TERM and no environment finds; wait until each has printed and saved its lines."""
    sessions = [client.create(STUBBORN) for _ in range(count)]
    eventually(lambda: all(client.output(session_id) == PRINTED for session_id in sessions), every=0.1)
    return sessions


def how(shown: dict[str, Any]) -> tuple[str, str]:
    return shown["status"], shown["reason"]


def assert_lost_but_whole(client: Client, session_id: str, reader: Reader) -> None:
    """The session ended as lost, its stream said so, and its output is what was printed."""
    end = reader.finish()
    shown = client.get(session_id)
    assert how(end) == how(shown) == LOST
    assert (shown["exit_code"], shown["exit_signal"]) == (None, None)
    assert client.output(session_id) == PRINTED


def test_kill_9_of_a_worker_leaves_no_process_and_ends_its_sessions(service: Service) -> None:
    ada = service.ada
    sessions = start_stubborn(ada, 5)
    readers = [Reader(ada, session_id, limit_seconds=30) for session_id in sessions]
    # The killed worker's neighbour: what it runs must not notice.
    service.worker("two")
    service.wait_ready()
    others = [ada.create("while read line; do echo got $line; done") for _ in range(8)]
    neighbour = eventually(lambda: next((s for s in others if ada.get(s)["worker"] == "two"), None), 10)
    incarnation = service.incarnations("one")[-1]
    assert len(marked([incarnation])) > 5 * 3

    service.worker("one").kill()
    eventually(lambda: not marked([incarnation]), 2)
    for session_id, reader in zip(sessions, readers, strict=True):
        assert_lost_but_whole(ada, session_id, reader)

    with ada.follow(neighbour) as stream:
        ada.input(neighbour, "still here")
        assert stream.until("output")[-1].content == b"got still here\n"
    for session_id in others:
        ada.delete(session_id)


def test_a_worker_that_comes_back_under_its_name_keeps_nothing_of_its_predecessor(service: Service) -> None:
    ada = service.ada
    sessions = start_stubborn(ada, 2)
    before = service.incarnations("one")[-1]

    service.worker("one").kill()
    service.worker("one")

    eventually(lambda: all(how(ada.get(session_id)) == LOST for session_id in sessions), TAKEOVER_SECONDS)
    assert [ada.output(session_id) for session_id in sessions] == [PRINTED] * 2
    assert not marked([before])
    service.wait_ready()
    assert ada.events(ada.create("true"))[-1].data["status"] == "completed"


def test_a_worker_that_stands_still_loses_its_processes_by_the_lease_and_never_writes_again(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 2)
    readers = [Reader(ada, session_id, limit_seconds=30) for session_id in sessions]
    incarnation = service.incarnations("one")[-1]

    worker.signal(signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        eventually(lambda: not marked([incarnation]), LEASE_SECONDS + 1)
        assert time.monotonic() - stopped > LEASE_SECONDS / 2  # the lease did it, not the stop
        for session_id, reader in zip(sessions, readers, strict=True):
            assert_lost_but_whole(ada, session_id, reader)
        ends = [ada.get(session_id) for session_id in sessions]
    finally:
        worker.signal(signal.SIGCONT)

    assert worker.wait(10) == 75
    assert [ada.get(session_id) for session_id in sessions] == ends
    assert [ada.output(session_id) for session_id in sessions] == [PRINTED] * 2


def test_kill_9_of_the_keeper_ends_its_sessions_and_the_worker_goes_on(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 3)
    readers = [Reader(ada, session_id, limit_seconds=30) for session_id in sessions]
    incarnation = service.incarnations("one")[-1]
    keeper = service.keeper_of(worker)

    kill_9(keeper)
    eventually(lambda: not marked([incarnation]), 2)
    ends = [reader.finish() for reader in readers]

    assert [how(end) for end in ends] == [("failed", "keeper_lost")] * 3
    assert [ada.output(session_id) for session_id in sessions] == [PRINTED] * 3
    assert ada.events(ada.create("exit 3"))[-1].data["exit_code"] == 3
    assert worker.alive
    assert service.keeper_of(worker) != keeper


def test_kill_9_of_worker_and_keeper_together_leaves_nothing_to_the_next_worker(service: Service) -> None:
    ada, worker = service.ada, service.worker("one")
    sessions = start_stubborn(ada, 2)
    incarnation = service.incarnations("one")[-1]

    worker.signal(signal.SIGSTOP)  # so that it cannot sweep
    kill_9(service.keeper_of(worker))
    worker.kill()
    assert marked([incarnation]), "this test needs something that is left"
    service.worker("one")

    eventually(lambda: not marked([incarnation]), TAKEOVER_SECONDS)
    eventually(lambda: all(how(ada.get(session_id)) == LOST for session_id in sessions), TAKEOVER_SECONDS)


def kill_9(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
