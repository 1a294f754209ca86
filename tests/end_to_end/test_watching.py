"""What every process of an installation writes: one shape, one line a request, one id from a request to all that it caused."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import pytest
import websocket

from tests.checks import eventually
from tests.client import SESSIONS
from tests.end_to_end.watched import watched
from tests.mirrored import Consumer
from tests.receivers import Receiver
from tests.service import ADA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.end_to_end.watched import Watched

PROCESSES: Final = {"web", "worker", "beat", "mirror", "webhooks", "flower"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("watched"), new_database()) as started:
        yield started


def asked(plant: Watched, request_id: str, method: str, path: str, body: object = None, **headers: str) -> int:
    """Ask with an id; return the status."""
    answer = plant.service.ada.request(method, path, body, headers={"X-Request-ID": request_id, **headers})
    assert answer.headers["X-Request-ID"] == request_id
    return answer.status


def test_one_id_is_found_in_all_that_a_request_causes(plant: Watched) -> None:
    request_id, receiver = "watched.request-1", Receiver()
    receiver.up()
    consumer = Consumer(plant.nats.url)
    try:
        assert plant.service.ada.request("POST", "/api/v1/webhooks", {"url": receiver.url()}).status == 201
        assert asked(plant, request_id, "POST", SESSIONS, {"query": "echo hello"}) == 201

        def told() -> bool:
            return any(received.body["request_id"] == request_id for received in receiver.received)

        eventually(told, 20)
        eventually(lambda: any(each.get("Request-Id") == request_id for each in consumer.headers), 20)
        eventually(lambda: {"web", "worker", "webhooks"} <= plant.lines_about(request_id).keys(), 20)
        eventually(lambda: "session ended" in events(plant, request_id, "worker"), 20)
    finally:
        consumer.close()
        receiver.down()

    assert "request" in events(plant, request_id, "web")
    # In the task, and in the session that it started.
    assert {"start received", "session started"} <= events(plant, request_id, "worker")
    (received,) = [line for line in plant.lines_about(request_id)["worker"] if line["event"] == "start received"]
    assert received["task"] == "jelmore.session.run"
    assert received["task_id"]
    assert "webhook attempt" in events(plant, request_id, "webhooks")
    for table in ("audit", "events", "sessions"):
        assert plant.service.rows(f"SELECT 1 FROM {table} WHERE request_id = %s", request_id), table


def events(plant: Watched, request_id: str, process: str) -> set[str]:
    return {line["event"] for line in plant.lines_about(request_id).get(process, [])}


def test_an_input_is_followed_to_the_bell_its_worker_heard(plant: Watched) -> None:
    session_id = plant.service.ada.create("cat")
    eventually(lambda: plant.service.ada.status(session_id) in ("active", "idle"), 20)

    assert asked(plant, "watched.input-1", "POST", f"{SESSIONS}/{session_id}/input", {"input": "hello\n"}) < 300
    eventually(lambda: "bell received" in events(plant, "watched.input-1", "worker"), 20)
    plant.service.ada.delete(session_id)


WRONG: Final = (
    ("GET", "/nothing", 404),
    ("PATCH", SESSIONS, 405),
    ("GET", f"{SESSIONS}/not-an-id", 404),
    ("POST", SESSIONS, 422),
    ("GET", "/health", 200),
    ("OPTIONS", SESSIONS, 200),
)


@pytest.mark.parametrize(("method", "path", "status"), WRONG)
def test_a_request_has_one_line_whatever_becomes_of_it(plant: Watched, method: str, path: str, status: int) -> None:
    request_id = f"watched.one.{method}{path.replace('/', '.')}"
    body = {"nothing": 1} if method == "POST" else None

    assert asked(plant, request_id, method, path, body) in (status, 400, 204)
    eventually(lambda: lines(plant, request_id), 10)

    (line,) = lines(plant, request_id)
    assert (line["method"], line["path"]) == (method, path)
    assert line["milliseconds"] >= 0
    assert line["key"] == ("ada" if path.startswith(SESSIONS) and method not in ("OPTIONS", "PATCH") else line["key"])


def lines(plant: Watched, request_id: str) -> list[dict[str, Any]]:
    return [line for line in plant.lines_about(request_id).get("web", []) if line["event"] == "request"]


def test_streams_have_one_line_each_too(plant: Watched) -> None:
    session_id = plant.service.ada.create("cat")
    with plant.service.ada.follow(session_id) as stream:
        (sse,) = [stream.headers["X-Request-ID"]]
        stream.until("status")
        opened = websocket.create_connection(
            f"ws://127.0.0.1:{plant.service.port}{SESSIONS}/{session_id}/ws",
            header={"Authorization": f"Bearer {ADA}", "X-Request-ID": "watched.socket"},
            suppress_origin=True,
            timeout=15,
        )
        opened.recv()
        opened.close()
    plant.service.ada.delete(session_id)
    for request_id in (sse, "watched.socket"):
        eventually(lambda wanted=request_id: lines(plant, wanted), 10)
        assert len(lines(plant, request_id)) == 1, request_id


def test_no_process_writes_anything_in_another_shape(plant: Watched) -> None:
    """gunicorn's master, Celery and Flower included; to standard output as to the file they share."""
    written = {member.name: member.said().splitlines() for member in plant.members}
    written["the file"] = plant.log_file.read_text().splitlines()
    seen: set[str] = set()
    for name, texts in written.items():
        assert texts, name
        for text in texts:
            line = shaped(text)
            assert {"event", "level", "logger", "process", "timestamp"} <= line.keys(), (name, text)
            assert line["level"].upper() in logging.getLevelNamesMapping(), (name, text)
            seen.add(line["logger"].partition(".")[0])
    assert {json.loads(line)["process"] for line in written["the file"]} == PROCESSES
    assert seen >= {"gunicorn", "celery", "app", "tasks", "runner"}


def shaped(text: str) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        pytest.fail(f"this is no line of ours: {text!r}")
    return line
