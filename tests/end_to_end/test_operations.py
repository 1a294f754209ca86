"""What an operator sees: Flower, the log, events with the request's id, health and metrics."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.checks import eventually
from tests.client import SESSIONS
from tests.leaks import KNOWN
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.service import Service

RUN = "jelmore.session.run"
WAIT_SECONDS = 20
OUTSIDE = "https://flower.example.org/watch"
"""Where people reach Flower."""


@pytest.fixture
def watched(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[tuple[Service, Callable[..., Any]]]:
    """An installation and its Flower: a function that asks Flower's interface."""
    login = f"me:{secrets.token_urlsafe(16)}"
    settings = {
        "WORKER_SLOTS": "2",
        "FLOWER_BASIC_AUTH": json.dumps([login]),
        "FLOWER_URL_PREFIX": "/watch",
        "FLOWER_URL": OUTSIDE,
    }
    with installed(tmp_path_factory.mktemp("watched"), new_database(), **settings) as started:
        KNOWN.know(login.partition(":")[2], "a password of Flower")
        port = started.start_flower()
        started.start("one")

        def ask(url: str, method: str = "GET") -> Any:
            request = urllib.request.Request(url.replace(OUTSIDE, f"http://127.0.0.1:{port}/watch"), method=method)
            request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
            with urllib.request.urlopen(request, timeout=15) as answer:
                body = answer.read()
            return json.loads(body) if answer.headers["Content-Type"].startswith("application/json") else body.decode()

        yield started, ask


def test_flower_shows_a_session_and_its_worker_and_can_end_both(
    watched: tuple[Service, Callable[..., Any]],
) -> None:
    service, ask = watched
    session_id = service.ada.create("echo here; sleep 60")
    with service.ada.follow(session_id) as stream:
        stream.until("output")

        def listed() -> dict[str, Any] | None:
            tasks = [task for task in ask(f"{OUTSIDE}/api/tasks").values() if session_id in str(task["args"])]
            return next((task for task in tasks if task["state"] == "STARTED"), None)

        task = eventually(listed, 20, every=0.2)
        shown = service.ada.get(session_id)
        page = ask(shown["flower_url"])
        ask(f"{OUTSIDE}/api/task/revoke/{task['uuid']}?terminate=true", "POST")
        end = stream.until("terminated")[-1].data

    assert task["name"] == RUN
    assert str(task["worker"]).startswith("one-")
    assert (task["args"], task["kwargs"]) == (f"('{session_id}',)", "{}")  # ids, and nothing of what it runs
    assert shown["task_id"] == task["uuid"]
    assert task["uuid"] in page
    assert task["worker"] in page
    assert "echo here" not in page
    assert (end["status"], end["reason"]) == ("terminated", "revoked")
    assert service.leftovers() == []

    eventually(lambda: task["worker"] in ask(f"{OUTSIDE}/api/workers?refresh=1"), 20, every=0.2)
    other = service.ada.create("echo here; sleep 60")
    with service.ada.follow(other) as stream:
        stream.until("output")
        ask(f"{OUTSIDE}/api/worker/shutdown/{task['worker']}", "POST")
        end = stream.until("terminated")[-1].data
    assert (end["status"], end["reason"]) == ("terminated", "worker_shutdown")
    assert service.workers["one"].wait(WAIT_SECONDS) == 0


def test_a_requests_id_travels_to_the_event_and_to_the_workers_log(service: Service) -> None:
    answer = service.ada.request("POST", SESSIONS, {"query": "true"}, headers={"X-Request-ID": "my.request-7"})
    session_id = answer.json()["session_id"]
    service.ada.events(session_id)

    assert answer.headers["X-Request-ID"] == "my.request-7"
    rows = service.rows("SELECT event_type, request_id FROM events WHERE session_id = %s ORDER BY id", session_id)
    assert ("session.created", "my.request-7") in rows
    assert {request_id for _, request_id in rows} == {"my.request-7"}
    for member in (service.web, service.worker("one")):
        assert any(line.get("request_id") == "my.request-7" for line in member.lines()), member.name


@pytest.mark.parametrize("given", [None, "", "with blank", "x" * 129, "ü", "<script>"])
def test_a_request_id_that_is_none_is_replaced(service: Service, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given.encode().decode("latin-1")}
    made = service.ada.request("GET", SESSIONS, headers=headers).headers["X-Request-ID"]

    assert made
    assert made != given


def test_health_needs_no_key_and_says_what_there_is(service: Service) -> None:
    answers = {path: service.client(None).request("GET", path) for path in ("/health", "/health/live", "/health/ready")}
    body = answers["/health"].json()

    assert {answer.status for answer in answers.values()} == {200}
    assert (body["status"], body["service"]) == ("healthy", "jelmore-integrated-api")
    parts = {"database", "migrations", "clock", "redis", "nats", "broker", "workers", "webhooks"}
    parts |= {"session_service", "websocket_manager"}
    assert set(body["infrastructure"]) == parts
    assert body["infrastructure"]["workers"]["stats"]["alive"] == 1


def test_metrics_are_shown_without_a_key(service: Service) -> None:
    answer = service.client(None).request("GET", "/metrics")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"jelmore" in answer.body
