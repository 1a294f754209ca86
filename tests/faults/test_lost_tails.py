"""A worker and Redis lost at once: what only they had is gone, and whoever saw it is told so and still comes to the end."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from tests.checks import eventually
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Stream
    from tests.service import Service

PROGRAMS = {
    "again": {
        "argv": ["/bin/sh", "-c", "echo attempt $JELMORE_ATTEMPT; echo two; echo three; cat"],
        "query": "none",
        "resumable": True,
    }
}


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    """An installation whose workers store late: until then Redis alone has what was printed."""
    late = {"SEGMENT_INTERVAL_SECONDS": "60", "JELMORE_PROGRAMS": json.dumps(PROGRAMS)}
    with installed(tmp_path_factory.mktemp("tails"), new_database(), **late) as started:
        started.start("one")
        yield started


def lose_worker_and_redis(service: Service) -> None:
    worker = service.worker("one")
    worker.signal(signal.SIGSTOP)
    os.kill(service.keeper_of(worker), signal.SIGKILL)
    worker.kill()
    service.redis().flushall()


def write(service: Service, statement: str, *values: object) -> None:
    connection = psycopg2.connect(service.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


def read_until(stream: Stream, text: bytes) -> int:
    """Read output until it holds a text; return the id of the entry that brought its last byte."""
    seen = b""
    for event in stream:
        if event.event == "output":
            seen += event.content
            if text in seen:
                assert event.id is not None
                return event.id
    raise AssertionError(seen)


def facts(events: list[Any]) -> list[tuple[str, Any]]:
    return [(event.event, event.data.get("status") or event.data.get("reason")) for event in events if event.id]


def test_readers_of_a_lost_tail_are_told_of_the_gap_and_of_the_end(service: Service) -> None:
    ada = service.ada
    session_id = ada.create("echo one; cat")
    for line in ("two", "three", "four", "five"):
        ada.input(session_id, line)
        eventually(lambda line=line: line.encode() in ada.output(session_id))  # type: ignore[misc]
    with ada.follow(session_id) as stream:
        last = read_until(stream, b"five\n")
        lose_worker_and_redis(service)

        rest = list(stream)
    assert facts(rest) == [("gap", "lost"), ("status", "failed"), ("terminated", "failed")]
    gap = rest[0].data
    assert gap["from"] <= last <= gap["to"]
    assert rest[-1].data["reason"] == "worker_lost"
    assert ada.output(session_id) == b""
    assert rest[-1].data["output_bytes"] == 0
    # Who comes back with what it saw last, and who reads from the start, come to the same end.
    assert facts(ada.events(session_id, last_event_id=last)) == facts(rest)
    assert facts(ada.events(session_id)) == facts(rest)


@pytest.mark.parametrize("start_is_written", [True, False])
def test_a_session_that_begins_again_gives_no_lost_number_twice(service: Service, start_is_written: bool) -> None:
    ada = service.ada
    session_id = ada.create("-", program="again")
    with ada.follow(session_id) as stream:
        last = read_until(stream, b"three\n")
        lose_worker_and_redis(service)
        if not start_is_written:  # readers are ahead of the row: a worker may die before it has written its start
            write(service, "UPDATE sessions SET started_at = NULL WHERE id = %s", session_id)
        service.worker("two")

        begun = [event for event in stream.until("restarted") if event.id]
        assert facts(begun) == [("gap", "lost"), ("status", "initializing"), ("restarted", "worker_lost")]
        assert begun[0].data["to"] > last
        read_until(stream, b"three\n")
    assert ada.output(session_id) == b"attempt 2\ntwo\nthree\n"
    ada.delete(session_id)
    ids = [event.id or 0 for event in ada.events(session_id)[1:]]
    assert ids == sorted(set(ids))


def test_a_session_whose_tail_redis_still_has_loses_nothing(service: Service) -> None:
    ada = service.ada
    session_id = ada.create("echo one; cat")
    eventually(lambda: ada.output(session_id) == b"one\n")
    service.worker("one").kill()

    events = ada.events(session_id)
    assert events[-1].data["reason"] == "worker_lost"
    assert "gap" not in [event.event for event in events]
    assert ada.output(session_id) == b"one\n"
