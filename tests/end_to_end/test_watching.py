"""What every process of an installation writes and counts: one shape of lines, one id from a request to all that it caused;
numbers that are valid whoever asks at the same time, and equal to what was done."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import websocket
from prometheus_client.metrics import MetricWrapperBase

from core import metrics
from tests.checks import eventually
from tests.client import SESSIONS
from tests.end_to_end.watched import everything, parsed, ports, scraped, total, watched
from tests.mirrored import Consumer
from tests.receivers import Receiver
from tests.service import ADA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.end_to_end.watched import Watched
    from tests.service import Service

PROCESSES: Final = {"web", "worker", "beat", "mirror", "webhooks", "flower"}


SIZES: Final = (1, 1000, 70_000)
LOAD: Final = 24
SCRAPERS: Final = 3


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


def test_a_client_s_trace_goes_on_through_the_web_tier_to_the_worker(plant: Watched) -> None:
    trace, above = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{above}-01"}
    body = {"query": "echo hush-in-a-query"}

    answer = plant.service.ada.request("POST", SESSIONS, body, headers=headers)
    assert answer.status == 201
    eventually(lambda: len(plant.collector.of(trace)) == 2, 20)

    request, start = (plant.collector.of(trace)[name] for name in (f"POST {SESSIONS}", "session start"))
    assert (request.service, request.parent) == ("jelmore-web", above)
    assert (start.service, start.parent) == ("jelmore-worker", request.id)
    assert request.attributes["http.response.status_code"] == "201"
    assert request.attributes["jelmore.request_id"] == start.attributes["jelmore.request_id"]
    assert start.attributes["jelmore.session_id"] == answer.json()["session_id"]
    assert not request.failed
    assert not any("hush" in str(span) for span in plant.collector.spans)


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
        eventually(partial(lines, plant, request_id), 10)
        assert len(lines(plant, request_id)) == 1, request_id


def test_no_process_writes_anything_in_another_shape(plant: Watched) -> None:
    """gunicorn's master, Celery and Flower included; to standard output as to the file they share."""
    plant.service.ada.events(plant.service.ada.create("true"))  # who has nothing to do says nothing
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


def test_every_metric_is_shown_by_a_process_and_none_that_is_not_declared(plant: Watched) -> None:
    shown = {process: parsed(scraped(port)) for process, port in ports(plant).items()}
    web, now = parsed(scraped(plant.service.port))
    ours = {name for names, _ in shown.values() for name in names if name.startswith("jelmore_")}
    declared = {
        next(iter(each.describe())).name for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)
    }

    assert ours == declared
    assert {name for name in web if name.startswith("jelmore_")} <= declared | metrics.NOW.keys()
    assert web >= metrics.NOW.keys()
    for process, (_, numbers) in shown.items():
        assert total(numbers, "jelmore_processes", process=process) == 1
    assert shown.keys() == {"worker", "beat", "mirror", "webhooks"}
    assert total(now, "jelmore_processes", process="web") == 2
    assert total(now, "jelmore_workers_slots") == 8


def run_one(service: Service, number: int) -> int:
    """Create a session that prints, with an input to wait for, follow it to its end; return what it printed."""
    size = SIZES[number % len(SIZES)]
    session_id = service.ada.create(f"head -c {size} /dev/zero | tr '\\0' x; read line")
    with service.ada.follow(session_id) as stream:
        assert service.ada.input(session_id, "go on\n").status == 200
        assert stream.until("terminated")[-1].data["exit_code"] == 0
    return size


def test_numbers_are_valid_whoever_asks_and_are_what_was_done(plant: Watched) -> None:
    before, over = everything(plant), threading.Event()

    def scrape() -> int:
        count = 0
        while not over.is_set():
            parsed(scraped(plant.service.port))
            count += 1
        return count

    with ThreadPoolExecutor(SCRAPERS + 4) as pool:
        scrapers = [pool.submit(scrape) for _ in range(SCRAPERS)]
        try:
            printed = sum(pool.map(lambda number: run_one(plant.service, number), range(LOAD)))
        finally:
            over.set()
        assert all(scraper.result() > 1 for scraper in scrapers)

    def rose(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    eventually(lambda: total(everything(plant), "jelmore_stream_followers") == 0)
    after = everything(plant)
    posts = {"route": SESSIONS, "method": "POST"}
    assert rose("jelmore_http_requests_total", **posts, status="201") == LOAD
    assert rose("jelmore_http_request_seconds_count", **posts) == LOAD
    assert rose("jelmore_sessions_started_total", program="shell") == LOAD
    assert rose("jelmore_sessions_ended_total", program="shell", status="completed", reason="exited") == LOAD
    assert rose("jelmore_session_queue_seconds_count") == LOAD
    assert rose("jelmore_inputs_delivered_total") == LOAD
    assert rose("jelmore_output_bytes_total") == printed
    assert rose("jelmore_streams_ended_total", transport="sse", why="end") == LOAD
    assert rose("jelmore_stream_bytes_total") > printed
    assert rose("jelmore_stream_lag_seconds_count") > 0
    assert total(after, "jelmore_worker_slots_used") == total(after, "jelmore_sessions") == 0
