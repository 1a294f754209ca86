"""Servers that are emptied, stopped or killed while programs print: nothing printed is lost, repeated or out of order."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually
from tests.client import SESSIONS, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from jelmore.embedded import Postgres
    from tests.client import Client
    from tests.service import Service

STEADY = "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; sleep {pause}; done"
AWAY_SECONDS = 5.0
LONG_AWAY_SECONDS = 10.0
SHORTER_THAN_THE_LEASE_SECONDS = 1.0
ANSWERED_SECONDS = 6.0
STALL = "the hub stood still"


def steady(count: int, pause: float) -> str:
    """A program that prints numbered lines for about count * pause seconds."""
    return STEADY.format(count=count, pause=pause)


def lines(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(1, count + 1))


def wait_until_printing(client: Client, session_id: str) -> None:
    with client.follow(session_id) as stream:
        stream.until("output")


def wait(seconds: float) -> None:
    """Let a fault last: its length is what is tested."""
    threading.Event().wait(seconds)


@pytest.fixture
def readers(service: Service) -> Callable[[str], list[Reader]]:
    """Two who follow all the time, and one who comes and goes."""

    def start(session_id: str) -> list[Reader]:
        steady_ones = [Reader(service.ada, session_id, limit_seconds=45) for _ in range(2)]
        return [*steady_ones, Reader(service.ada, session_id, cut_seconds=0.3, limit_seconds=45)]

    return start


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


def test_what_is_queued_starts_though_redis_was_emptied(service: Service) -> None:
    ada = service.ada
    slots = 8
    running = [ada.create("sleep 60") for _ in range(slots)]
    eventually(lambda: all(ada.status(session_id) == "active" for session_id in running))
    queued = [ada.create(f"echo {number}") for number in range(3)]
    service.redis().flushall()
    for session_id in running:
        ada.delete(session_id, "?wait=25")

    for number, session_id in enumerate(queued):
        assert ada.events(session_id)[-1].data["status"] == "completed"
        assert ada.output(session_id) == f"{number}\n".encode()


def test_a_frozen_redis_costs_no_session_and_no_byte(service: Service, readers: Callable[[str], list[Reader]]) -> None:
    count = 300
    session_id = service.ada.create(steady(count, 0.02))
    followers = readers(session_id)
    wait_until_printing(service.ada, session_id)
    service.valkey.pause()
    try:
        created = create_meanwhile(service, AWAY_SECONDS)
        health = service.client(None).request("GET", "/health")
    finally:
        service.valkey.resume()

    assert (health.status, health.json()["status"]) == (200, "degraded")
    assert service.ada.events(created)[-1].data["status"] == "completed"
    for follower in followers:
        assert follower.finish()["status"] == "completed"
    assert service.ada.output(session_id) == lines(count)


def create_meanwhile(service: Service, away_seconds: float) -> str:
    """Create a session while a server is away, and see that the answer does not wait for it; then wait out the fault."""
    began = time.monotonic()
    created = service.ada.create("echo later")
    assert time.monotonic() - began < ANSWERED_SECONDS
    wait(away_seconds - (time.monotonic() - began))
    return created


def test_a_killed_redis_costs_no_session_and_no_byte_and_stops_no_worker(
    service: Service, readers: Callable[[str], list[Reader]]
) -> None:
    count = 400
    worker = service.worker("one")
    said_before = len(worker.said())
    session_id = service.ada.create(steady(count, 0.03))
    followers = readers(session_id)
    wait_until_printing(service.ada, session_id)
    service.valkey.kill()
    try:
        created = create_meanwhile(service, LONG_AWAY_SECONDS)
        printed = service.ada.output(session_id)
    finally:
        service.valkey.start()

    assert printed.count(b"\n") > 100, "readers see output though Redis is away"
    assert service.ada.events(created)[-1].data["status"] == "completed"
    for follower in followers:
        assert follower.finish()["status"] == "completed"
    assert service.ada.output(session_id) == lines(count)
    assert STALL not in worker.said()[said_before:]


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


def test_after_everything_was_killed_at_once_the_sessions_are_lost_and_every_stream_ends(
    service: Service, breakable_postgres: Postgres
) -> None:
    ada = service.ada
    old = ada.create("echo before")
    ada.events(old)
    sessions = [ada.create(f"echo {number}; while :; do sleep 0.1; done") for number in range(3)]
    printed = [b"%d\n" % number for number in range(len(sessions))]
    eventually(lambda: [ada.output(session_id) for session_id in sessions] == printed)
    readers = [Reader(ada, session_id, limit_seconds=40) for session_id in sessions]
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
