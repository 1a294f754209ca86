"""Servers that are emptied, stopped or killed while programs print: nothing printed is lost, repeated or out of order."""

from __future__ import annotations

import operator
import signal
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from core.vital import STALL_SECONDS
from tests.checks import eventually, frozen, how, marked, runs, wait
from tests.client import SESSIONS, Reader
from tests.programs.shell import endless, is_numbered_lines, lines, steady
from tests.service import FULL_LENGTH
from tests.stalls import stalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from jelmore.embedded import Postgres
    from tests.client import Client
    from tests.service import Service

T = TypeVar("T")

ENDED_BY_THE_LEASE = {("failed", "worker_lost"), ("failed", "keeper_lost")}
"""Whoever says it first: the worker, whose keeper left with all it kept, or housekeeping."""
REDIS_AWAY_SECONDS = 75.0 if FULL_LENGTH else 15.0
"""A broker that was away for 75 s once stopped every worker's loop for all of it."""
SHORTER_THAN_THE_LEASE_SECONDS = 1.0
ANSWERED_SECONDS = 6.0
SEEN_SECONDS = 5.0
"""How long a reader waits at most for what is printed while Redis is away: it is stored, and looked for, once a second."""
MANY = 20


def wait_until_printing(client: Client, session_id: str) -> None:
    with client.follow(session_id) as stream:
        stream.until("output")


@pytest.fixture
def readers(service: Service) -> Callable[[str], list[Reader]]:
    """Two who follow all the time, and one who comes and goes."""

    def start(session_id: str) -> list[Reader]:
        steady_ones = [Reader(service.ada, session_id, limit_seconds=45) for _ in range(2)]
        return [*steady_ones, Reader(service.ada, session_id, cut_seconds=0.3, limit_seconds=45)]

    return start


@pytest.mark.case(9, 11)
def test_emptying_redis_and_cutting_its_connections_costs_no_reader_a_byte(
    service: Service, readers: Callable[[str], list[Reader]]
) -> None:
    count = 300
    session_id = service.ada.create(steady(count, 0.01))
    followers = readers(session_id)
    wait_until_printing(service.ada, session_id)
    client = service.redis()
    for _ in range(4):
        wait(0.4)
        client.flushall()
        wait(0.3)
        client.client_kill_filter(_type="pubsub")
        client.client_kill_filter(_type="normal", skipme=True)

    for follower in followers:
        assert follower.finish()["status"] == "completed"
    assert service.ada.output(session_id) == lines(count)


@pytest.mark.case(9)
def test_what_is_queued_starts_though_redis_was_emptied(service: Service) -> None:
    ada = service.ada
    running = [ada.create("sleep 60") for _ in range(int(service.seconds("WORKER_SLOTS")))]
    eventually(lambda: all(runs(ada.get(session_id)) for session_id in running))
    queued = [ada.create(f"echo {number}") for number in range(3)]
    service.redis().flushall()
    for session_id in running:
        ada.delete(session_id, "?wait=0")

    for number, session_id in enumerate(queued):
        assert ada.events(session_id)[-1].data["status"] == "completed"
        assert ada.output(session_id) == f"{number}\n".encode()


class Herd:
    """Twenty programs that print for as long as a fault lasts and some time beyond, and a reader of each fourth."""

    def __init__(self, service: Service, away_seconds: float) -> None:
        self.service = service
        self.count = int((away_seconds + 5) / 0.5)
        self.worker = service.worker("one")
        self.sessions = [service.ada.create(steady(self.count, 0.5)) for _ in range(MANY)]
        limit = 3 * away_seconds + 60
        self.readers = [Reader(service.ada, session_id, limit_seconds=limit) for session_id in self.sessions[::4]]
        for session_id in self.sessions:
            wait_until_printing(service.ada, session_id)
        self.said_before = len(self.worker.lines())

    def assert_streams_go_on(self, seconds: float) -> None:
        """Every reader gets something new."""
        before = [reader.size for reader in self.readers]
        eventually(lambda: all(reader.size > size for reader, size in zip(self.readers, before, strict=True)), seconds)

    def assert_unharmed(self) -> None:
        """All completed, every byte is there, and the worker's loop never stood still."""
        for reader in self.readers:
            assert how(reader.finish()) == ("completed", "exited")
        ended = {"completed"}
        eventually(
            lambda: {self.service.ada.status(session_id) for session_id in self.sessions} == ended, 30, every=0.2
        )
        assert {self.service.ada.output(session_id) for session_id in self.sessions} == {lines(self.count)}
        assert stalls(self.worker.lines()[self.said_before :]) == []


@pytest.mark.case(7, 8)
@pytest.mark.timeout(180)
def test_redis_away_harms_none_of_twenty_sessions_and_never_stops_the_workers_loop(
    service: Service, staffed: Service
) -> None:
    herds = [Herd(each, REDIS_AWAY_SECONDS) for each in (service, staffed)]
    service.valkey.kill()
    staffed.valkey.pause()
    away = time.monotonic()
    try:
        created = [create_meanwhile(each) for each in (service, staffed)]
        herds[0].assert_streams_go_on(SEEN_SECONDS)
        health = [each.client(None).request("GET", "/health", timeout=ANSWERED_SECONDS) for each in (service, staffed)]
        wait(REDIS_AWAY_SECONDS - (time.monotonic() - away))
    finally:
        service.valkey.start()
        staffed.valkey.resume()

    assert [(answer.status, answer.json()["status"]) for answer in health] == [(200, "degraded")] * 2
    for herd, session_id in zip(herds, created, strict=True):
        herd.assert_unharmed()
        assert herd.service.ada.events(session_id)[-1].data["status"] == "completed"


@pytest.mark.case(8)
def test_readers_go_on_while_a_frozen_redis_says_nothing(staffed: Service) -> None:
    sessions = [staffed.ada.create(endless(0.2)) for _ in range(5)]
    readers = [Reader(staffed.ada, session_id, limit_seconds=60) for session_id in sessions]
    eventually(lambda: all(reader.size for reader in readers))
    staffed.valkey.pause()
    try:
        for _ in range(2):
            before = [reader.size for reader in readers]
            eventually(lambda: all(map(operator.gt, [reader.size for reader in readers], before)), SEEN_SECONDS)  # noqa: B023
    finally:
        staffed.valkey.resume()
    for session_id, reader in zip(sessions, readers, strict=True):
        staffed.ada.delete(session_id)
        assert how(reader.finish()) == ("terminated", "requested")


def test_a_loop_that_stands_still_is_told_from_one_that_waits_for_a_processor(service: Service) -> None:
    """The measure of the test above measures: a worker that is stopped is ready for nothing, and so waits for nothing."""
    worker = service.worker("one")
    said_before = len(worker.lines())
    worker.signal(signal.SIGSTOP)
    wait(3 * STALL_SECONDS)
    worker.signal(signal.SIGCONT)
    eventually(lambda: stalls(worker.lines()[said_before:]))


def create_meanwhile(service: Service) -> str:
    """Create a session while Redis is away, and see that no answer waits for it."""
    ada = service.ada
    created = answered_in_time(lambda: ada.create("echo later"))
    assert answered_in_time(lambda: ada.get(created))["status"] == "initializing"
    assert answered_in_time(lambda: ada.input(created, "to be read later")).status == 200
    assert answered_in_time(lambda: ada.output(created)) == b""
    return created


def answered_in_time(ask: Callable[[], T]) -> T:
    """Return what is answered, having seen that it did not wait for a server that is away."""
    began = time.monotonic()
    answer = ask()
    assert time.monotonic() - began < ANSWERED_SECONDS
    return answer


@pytest.mark.case(13)
def test_postgres_away_for_less_than_the_lease_costs_no_session_and_no_byte(
    service: Service, breakable_postgres: Postgres, readers: Callable[[str], list[Reader]]
) -> None:
    count = 300
    session_id = service.ada.create(steady(count, 0.015))
    followers = readers(session_id)
    wait_until_printing(service.ada, session_id)
    breakable_postgres.kill()
    try:
        refused = service.ada.request("POST", SESSIONS, {"query": "true"})
        unhealthy = service.client(None).request("GET", "/health")
        alive = service.client(None).request("GET", "/health/live")
        wait(SHORTER_THAN_THE_LEASE_SECONDS / 2)
    finally:
        breakable_postgres.start()

    assert (refused.status, refused.json()["error_code"]) == (503, "DATABASE_UNAVAILABLE")
    assert int(refused.headers["Retry-After"]) > 0
    assert (unhealthy.status, unhealthy.json()["status"], alive.status) == (503, "unhealthy", 200)
    for follower in followers:
        assert follower.finish()["status"] == "completed"
    assert service.ada.output(session_id) == lines(count)


@pytest.mark.case(14)
def test_postgres_silent_for_longer_than_the_lease_ends_the_sessions_and_nothing_else(
    service: Service, breakable_postgres: Postgres
) -> None:
    ada, lease = service.ada, service.seconds("LEASE_SECONDS")
    sessions = [ada.create(endless(0.1)) for _ in range(3)]
    for session_id in sessions:
        wait_until_printing(ada, session_id)
    incarnation = service.incarnations("one")[-1]
    workers = service.workers["one"], service.beat, service.web
    pids = [worker.pid for worker in workers]
    assert breakable_postgres.process is not None
    with frozen(breakable_postgres.process.pid):
        stopped = time.monotonic()
        eventually(lambda: not marked([incarnation]), lease + 1)
        ended_after = time.monotonic() - stopped
        wait(lease / 3)

    assert ended_after > lease / 2, "the lease ends them, not the silence"
    spared = lease + service.seconds("HOUSEKEEPING_INTERVAL_SECONDS")
    eventually(lambda: all(ada.get(each)["terminated_at"] for each in sessions), spared + service.takeover_seconds)
    for session_id in sessions:
        assert how(ada.get(session_id)) in ENDED_BY_THE_LEASE
        assert is_numbered_lines(ada.output(session_id))
        assert how(ada.events(session_id)[-1].data) == how(ada.get(session_id))
    assert marked([incarnation]) == []
    assert [member.pid for member in workers[1:]] == pids[1:]
    service.worker("one")
    service.wait_ready()
    assert ada.events(ada.create("true"))[-1].data["status"] == "completed"


@pytest.mark.case(54)
def test_after_everything_was_killed_at_once_the_sessions_are_lost_and_every_stream_ends(
    service: Service, breakable_postgres: Postgres
) -> None:
    ada = service.ada
    old = ada.create("echo before")
    ada.events(old)
    sessions = [ada.create(f"echo {number}; while :; do sleep 0.1; done") for number in range(3)]
    printed = [b"%d\n" % number for number in range(len(sessions))]
    eventually(lambda: [ada.output(session_id) for session_id in sessions] == printed)
    readers = [Reader(ada, session_id, limit_seconds=90) for session_id in sessions]
    incarnations = service.incarnations()

    for process in (service.web, service.worker("one"), service.beat):
        process.kill()
    service.valkey.kill()
    breakable_postgres.kill()
    breakable_postgres.start()
    service.valkey.start()
    service.start("one")

    for session_id, reader in zip(sessions, readers, strict=True):
        end = reader.finish()
        assert (end["status"], end["reason"]) == ("failed", "worker_lost")
        assert ada.status(session_id) == "failed"
    assert [ada.output(session_id) for session_id in sessions] == printed
    assert ada.output(old) == b"before\n"
    assert ada.get(old)["status"] == "completed"
    assert service.leftovers() == []
    assert set(incarnations) < set(service.incarnations())
    assert ada.events(ada.create("true"))[-1].data["status"] == "completed"
