"""A resumable program whose worker is lost goes on elsewhere, in one log: as often as is allowed, and never against a wish."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually
from tests.client import Reader
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Client
    from tests.service import Service

RESTARTS = 2
COUNT = """
echo "attempt $JELMORE_ATTEMPT"
while read line; do echo "$line" >> got; echo "heard $line, $(wc -l < got) in all"; done
"""
PROGRAMS = {
    "counter": {"argv": ["/bin/sh", "-c", COUNT], "query": "none", "resumable": True},
    "once": {"argv": ["/bin/sh", "-c", COUNT], "query": "none"},
}


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("restarts")
    settings = {"JELMORE_PROGRAMS": json.dumps(PROGRAMS), "SESSION_RESTARTS": str(RESTARTS)}
    with installed(home, new_database(), **settings) as started:
        started.start("worker-1")
        yield started


def say(ada: Client, session_id: str, line: str) -> None:
    """Send a line and wait until it was heard."""
    ada.input(session_id, line)
    eventually(lambda: f"heard {line},".encode() in ada.output(session_id), 30)


def lose_worker(service: Service, number: int) -> None:
    """Kill worker `number`, with the next one ready."""
    service.worker(f"worker-{number + 1}")
    service.wait_ready()
    service.worker(f"worker-{number}").kill()


def test_a_resumable_session_goes_on_elsewhere_within_its_budget(service: Service) -> None:
    ada = service.ada
    session_id, other = ada.create("-", program="counter"), ada.create("-", program="once")
    reader = Reader(ada, session_id, limit_seconds=90, cut_seconds=1.0)
    say(ada, other, "x")
    for number in range(1, RESTARTS + 2):
        say(ada, session_id, f"line{number}")
        shown = ada.get(session_id)
        assert (shown["attempt"], shown["worker"]) == (number, f"worker-{number}")
        lose_worker(service, number)

    end = reader.finish()
    assert (end["status"], end["reason"]) == ("failed", "worker_lost")
    output = ada.output(session_id)
    assert output.decode().splitlines() == [
        text for n in range(1, RESTARTS + 2) for text in (f"attempt {n}", f"heard line{n}, {n} in all")
    ]
    assert reader.sha256 == end["output_sha256"] == hashlib.sha256(output).hexdigest()
    events = ada.events(session_id)
    assert [event.data["attempt"] for event in events if event.event == "restarted"] == [2, 3]
    assert [event.id for event in events[1:]] == list(range(1, len(events)))
    assert ada.get(other)["attempt"] == 1
    assert ada.events(other)[-1].data["reason"] == "worker_lost"
    assert not service.leftovers("worker-1")
    told = "SELECT payload->>'attempt' FROM events WHERE session_id = %s AND event_type = 'session.restarted' ORDER BY position"
    assert service.rows(told, session_id) == [("2",), ("3",)]


def test_one_that_waits_to_begin_again_can_be_stopped(service: Service) -> None:
    ada = service.ada
    session_id = ada.create("-", program="counter")
    say(ada, session_id, "one")
    service.worker("worker-1").kill()
    eventually(lambda: ada.get(session_id)["attempt"] == 2, 30)
    assert ada.get(session_id)["status"] == "initializing"

    assert ada.delete(session_id).status == 200
    end = ada.events(session_id)[-1].data
    assert (end["status"], end["reason"]) == ("terminated", "requested")
    output = ada.output(session_id)
    assert output == b"attempt 1\nheard one, 1 in all\n"
    assert end["output_sha256"] == hashlib.sha256(output).hexdigest()
    assert end["output_bytes"] == len(output)


def test_one_that_is_being_stopped_does_not_begin_again(service: Service) -> None:
    ada = service.ada
    deaf = ada.create("-", program="counter")
    say(ada, deaf, "one")
    worker = service.worker("worker-1")
    worker.kill()
    assert ada.delete(deaf, "?wait=0").status == 202

    end = ada.events(deaf)[-1].data
    assert (end["status"], end["reason"]) == ("terminated", "requested")
    assert ada.get(deaf)["attempt"] == 1
