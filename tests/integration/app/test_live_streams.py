"""Streams of live sessions, under gunicorn's gevent worker as they are served."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.integration.app.reading import Event, parse
from tests.integration.app.serving import Api, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Gunicorn


@contextmanager
def following(api: Api, session_id: UUID, query: str = "") -> Iterator[Iterator[Event]]:
    path = f"/api/v1/sessions/{session_id}/stream{query}"
    with api.client.stream("GET", path, headers=api.headers) as answer:
        assert answer.status_code == 200
        yield parse(answer.iter_lines())


def open_streams(api: Api) -> dict[str, int]:
    health = api.client.get("/health").json()
    stats: dict[str, int] = health["infrastructure"]["websocket_manager"]["stats"]
    return stats


def test_what_is_printed_is_seen_at_once_and_the_end_ends_the_stream(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    with following(gevent, session_id) as events:
        assert next(events).event == "connected"
        run = holder.run(session_id)
        for line in (b"one", b"two"):
            run.write(line)
            assert next(events).data["content"] == line.decode()
        run.end()
        assert [event.event for event in events] == ["status", "terminated"]


def test_two_readers_and_one_who_comes_later_see_the_same(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    run = holder.run(session_id)
    run.write(b"0")
    with following(gevent, session_id) as one, following(gevent, session_id, "?after=1") as two:
        next(one), next(two)
        for number in range(1, 50):
            run.write(str(number).encode())
        with following(gevent, session_id) as late:
            next(late)
            run.end()
            seen = [event.id for event in one]
            assert seen == [event.id for event in late] == list(range(1, 53))
            assert seen[1:] == [event.id for event in two]


def test_a_silent_stream_shows_that_it_lives(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    holder.run(session_id)
    path = f"/api/v1/sessions/{session_id}/stream"
    with gevent.client.stream("GET", path, headers=gevent.headers) as answer:
        lines = answer.iter_lines()
        assert any(line.startswith(":") for line in lines)


def test_a_reader_who_leaves_frees_the_place(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    holder.run(session_id)
    before = open_streams(gevent)["total_connections"]
    with following(gevent, session_id) as events:
        next(events)
        assert open_streams(gevent)["total_connections"] == before + 1

    until(lambda: open_streams(gevent)["total_connections"] == before)


def test_a_place_ahead_of_a_live_log_is_refused(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    holder.run(session_id).write(b"x")

    answer = gevent.get(f"/sessions/{session_id}/stream?after=2")

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def test_over_the_cap_streams_are_refused_and_health_answers(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], holder: Holder
) -> None:
    served = gunicorns({**variables, "MAX_STREAMS": "1", "FOLLOWER_TIMEOUT_SECONDS": "0.5"})
    with httpx2.Client(base_url=served.url) as client:
        api = Api(client)
        until(lambda: open_streams(api)["total_connections"] == 0)  # the one place may still be another test's
        session_id = api.create()
        holder.run(session_id)
        with following(api, session_id) as events:
            next(events)
            answer = api.get(f"/sessions/{session_id}/stream")
            assert (answer.status_code, answer.json()["error_code"]) == (503, "TOO_MANY_STREAMS")
            assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/health/ready").status_code == 200


def test_a_reader_who_takes_no_byte_is_closed_on(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], holder: Holder
) -> None:
    served = gunicorns({**variables, "MAX_STREAMS": "1", "FOLLOWER_TIMEOUT_SECONDS": "0.5"})
    with httpx2.Client(base_url=served.url) as client, socket.socket() as connection:
        api = Api(client)
        until(lambda: open_streams(api)["total_connections"] == 0)  # the one place may still be another test's
        session_id = api.create()
        run = holder.run(session_id)
        for _ in range(128):
            run.write(b"x" * 64 * 1024)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        head = f"GET /api/v1/sessions/{session_id}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada-key\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(12) == b"HTTP/1.1 200"

        until(lambda: open_streams(api)["total_connections"] == 0)


def test_a_body_that_does_not_arrive_is_not_waited_for(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]
) -> None:
    head = "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada-key\r\n"
    with socket.create_connection(("127.0.0.1", gunicorns(variables).port), timeout=10) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{{".encode())
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("size", [2 * 1024 * 1024])
def test_a_body_too_large_is_refused_while_it_comes(gevent: Api, size: int) -> None:
    answer = gevent.call("POST", "/sessions", content=b" " * size, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["error_code"]) == (413, "BODY_TOO_LARGE")


def test_health_knows_every_part(gevent: Api, holder: Holder) -> None:
    health: dict[str, Any] = gevent.client.get("/health").json()

    assert (health["status"], health["service"]) == ("healthy", "jelmore-integrated-api")
    assert list(health["infrastructure"]) == [
        *(
            "database",
            "migrations",
            "clock",
            "redis",
            "nats",
            "broker",
            "workers",
            "webhooks",
            "session_service",
            "websocket_manager",
        )
    ]
    assert health["infrastructure"]["workers"]["stats"]["alive"] >= 1
    assert holder.node


def test_the_log_has_a_line_for_each_request_and_no_key(
    gevent: Api, variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]
) -> None:
    gevent.get("/sessions?user_id=s3cret", headers={"X-Request-ID": "look-for-me"})

    log = gunicorns(variables).log
    until(lambda: "look-for-me" in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines() if "look-for-me" in line]
    assert [(line["path"], line["status"], line["key"]) for line in lines] == [("/api/v1/sessions", 200, "ada")]
    assert "s3cret" not in log.read_text()
    assert "ada-key" not in log.read_text()
