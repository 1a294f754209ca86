"""Workers that are asked to leave under load, whatever is away: out in time, nothing left, every end written at last."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.checks import eventually, family, frozen, how, is_alive, marked, runs
from tests.client import Reader
from tests.programs.shell import STUBBORN, endless, is_numbered_lines
from tests.proxy import proxied

if TYPE_CHECKING:
    from jelmore.embedded import Postgres
    from tests.member import Member
    from tests.service import Service

SHUTDOWN = ("terminated", "worker_shutdown")
ENDED_BY_THE_WORKER_OR_IN_ITS_PLACE: Final = {SHUTDOWN, ("failed", "worker_lost")}
LOAD: Final = 6
"""Sessions of each worker: half of them print all the time, half are deaf."""


def load(service: Service, workers: int = 1) -> dict[str, list[str]]:
    """Start as many sessions as these workers have slots; return them by worker once all run and print."""
    queries = [endless(0.05), STUBBORN] * (LOAD // 2) * workers
    sessions = [service.ada.create(query) for query in queries]
    eventually(lambda: all(runs(service.ada.get(each)) for each in sessions), 20, every=0.1)
    eventually(lambda: all(service.ada.output(each) for each in sessions), 20, every=0.1)
    by_worker: dict[str, list[str]] = {}
    for session_id in sessions:
        by_worker.setdefault(service.ada.get(session_id)["worker"], []).append(session_id)
    return by_worker


def watchdog_seconds(service: Service) -> float:
    """Return after how long a worker is gone at the latest; the rest is Python's end."""
    return service.seconds("WORKER_WATCHDOG_SECONDS") + 2


def is_gone(worker: Member) -> bool:
    return not worker.alive


@pytest.mark.case(20, 21)
def test_workers_under_load_leave_in_time_whatever_is_away_and_every_end_is_written_at_last(
    elsewhere: Service, service: Service, breakable_postgres: Postgres
) -> None:
    """Three of one installation, one without Redis and one without PostgreSQL; and one whose PostgreSQL nobody reaches."""
    ways: dict[str, dict[str, str]]
    with proxied(elsewhere.valkey.url) as to_redis, proxied(elsewhere.database_url) as to_postgres:
        ways = {
            "well": {},
            "without-redis": {"REDIS_URL": to_redis.url},
            "without-postgres": {"DATABASE_URL": to_postgres.url},
        }
        for name, way in ways.items():
            elsewhere.worker(name, WORKER_SLOTS=str(LOAD), **way)
        elsewhere.wait_ready()
        sessions = load(elsewhere, len(ways))
        assert sessions.keys() == ways.keys()
        others = load(service)["one"]
        readers = [Reader(service.ada, session_id, limit_seconds=90) for session_id in others]
        incarnations = [*elsewhere.incarnations(), *service.incarnations()]
        workers = [*elsewhere.workers.values(), service.workers["one"]]
        assert breakable_postgres.process is not None
        with frozen(breakable_postgres.process.pid):
            to_redis.black_hole()
            to_postgres.black_hole()
            ask_all_to_leave(workers, watchdog_seconds(elsewhere))
            eventually(lambda: marked(incarnations) == [], 2)

    assert elsewhere.workers["well"].wait() == 0
    for name in ("well", "without-redis"):
        assert {how(elsewhere.ada.get(each)) for each in sessions[name]} == {SHUTDOWN}
    for name in ways:
        assert_ended(elsewhere, sessions[name])
    assert_ended(service, others)
    for reader in readers:
        assert how(reader.finish()) in ENDED_BY_THE_WORKER_OR_IN_ITS_PLACE


def ask_all_to_leave(workers: list[Member], seconds: float) -> None:
    """All are gone within so many seconds."""
    asked = time.monotonic()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    for worker in workers:
        eventually(partial(is_gone, worker), seconds - (time.monotonic() - asked))


def assert_ended(service: Service, sessions: list[str]) -> None:
    """Every end is written, told to readers, and after what was printed."""
    ada = service.ada
    limit = service.takeover_seconds + service.seconds("LEASE_SECONDS")
    eventually(lambda: all(ada.get(each)["terminated_at"] for each in sessions), limit, every=0.1)
    for session_id in sessions:
        shown = ada.get(session_id)
        assert how(shown) in ENDED_BY_THE_WORKER_OR_IN_ITS_PLACE
        assert how(ada.events(session_id)[-1].data) == how(shown)
        assert is_numbered_lines(ada.output(session_id))


@pytest.mark.case(20)
def test_sigterm_to_every_process_of_a_worker_twice_ends_it_as_one_to_the_worker_does(service: Service) -> None:
    """Some platforms tell every process, in any order and more than once: what then dies first was still asked to."""
    ada, worker = service.ada, service.worker("one")
    sessions = load(service)["one"]
    readers = [Reader(ada, session_id, limit_seconds=60) for session_id in sessions]
    waiting: list[str] = []
    # Half the programs are deaf; of the others, which hear it before their worker does, each is gone by then.
    mains = [int(ada.get(session_id)["claude_process_id"]) for session_id in sessions[::2]]

    asked = time.monotonic()
    everybody = family(worker.pid)
    for _ in range(2):
        for pid in reversed(everybody):
            signal_if_there(pid, signal.SIGTERM)
            if pid in mains:
                eventually(lambda: not is_alive(pid))  # noqa: B023
        waiting.append(ada.create("echo later"))
    code = worker.wait(watchdog_seconds(service))

    assert code == 0
    assert time.monotonic() - asked < watchdog_seconds(service)
    assert service.leftovers() == []
    for reader in readers:
        assert how(reader.finish()) == SHUTDOWN
    for session_id in waiting:
        assert ada.status(session_id) == "initializing", "a worker that leaves starts nothing"
    service.worker("two")
    for session_id in waiting:
        assert how(ada.events(session_id)[-1].data) == ("completed", "exited")


def signal_if_there(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # a program that was told before has ended already
