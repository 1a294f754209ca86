"""Connections that send half a request, too much of one, or none: each costs little, for a while, and is told why."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.checks import eventually
from tests.integration.app.serving import Api, Gunicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

POST = b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
KEY = b"Authorization: Bearer ada-key\r\n"
NOT_FOR_EVER = 8.0
"""Seconds within which a connection ends on which nothing more comes; a request's head and body have one."""


@pytest.fixture(scope="module")
def served(new_database: Any, valkey: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A web process with its own configuration: few connections, little patience."""
    from tests.integration.app.conftest import KEYS
    from tests.service import NO_RATE_LIMITS

    variables = {
        "DATABASE_URL": new_database(),
        "REDIS_URL": valkey.url,
        "API_KEYS": json.dumps(KEYS),
        "BODY_TIMEOUT_SECONDS": "1",
        "FOLLOWER_TIMEOUT_SECONDS": "2",
        "WORKER_CONNECTIONS": "40",
        "MAX_STREAMS_PER_KEY": "45",
        "MAX_STREAMS": "60",
        "GRACEFUL_TIMEOUT_SECONDS": "1",
        **NO_RATE_LIMITS,
    }
    gunicorn = Gunicorn(variables, tmp_path_factory.mktemp("connections") / "log", config="gunicorn.conf.py")
    try:
        gunicorn.wait()
        yield gunicorn
    finally:
        gunicorn.stop()


@contextmanager
def connected(served: Gunicorn) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=NOT_FOR_EVER) as client:
        yield client


def answer_on(client: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Read one answer: status, headers by lower-case name, JSON."""
    said = b""
    while b"\r\n\r\n" not in said:
        piece = client.recv(65536)
        assert piece, f"closed after {said!r}"
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += client.recv(65536)
    return int(status.split()[1]), headers, json.loads(body) if body else None


def assert_closed(client: socket.socket) -> None:
    """What is sent there now is answered by nobody."""
    try:
        assert client.recv(1) == b""
    except ConnectionResetError:
        pass


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (KEY + b"Content-Length: 1048577\r\n", 413, "BODY_TOO_LARGE"),
        (KEY + b"Content-Length: 99999999999\r\n", 413, "BODY_TOO_LARGE"),
        (KEY + b"Transfer-Encoding: chunked\r\n", 411, "LENGTH_REQUIRED"),
        (b"Content-Length: 500000\r\n", 401, "API_KEY_REQUIRED"),
    ],
)
def test_a_body_that_is_not_read_does_not_hold_the_connection(
    served: Gunicorn, head: bytes, status: int, code: str
) -> None:
    with connected(served) as client:
        client.sendall(POST + head + b"\r\n" + b"10\r\n")
        answered, headers, body = answer_on(client)

        assert (answered, body["error_code"], headers["connection"]) == (status, code, "close")
        assert_closed(client)


def test_who_goes_on_sending_gets_the_answer_nevertheless(served: Gunicorn) -> None:
    """A connection closed with unread bytes is reset, and takes the answer with it."""
    for _ in range(5):
        with connected(served) as client:
            client.sendall(POST + KEY + b"Content-Length: 2000000\r\n\r\n" + b" " * 2_000_000)
            assert answer_on(client)[0] == 413


def test_who_sends_a_whole_body_for_nothing_keeps_the_connection(served: Gunicorn) -> None:
    with connected(served) as client:
        for _ in range(3):
            client.sendall(POST + b"Content-Length: 2\r\n\r\n{}")
            status, headers, _ = answer_on(client)
            assert (status, headers["connection"]) == (401, "keep-alive")


def test_a_body_that_comes_too_slowly_is_refused_and_the_connection_ends(served: Gunicorn) -> None:
    with connected(served) as client:
        client.sendall(POST + KEY + b"Content-Length: 100\r\n\r\n{")
        status, headers, body = answer_on(client)

        assert (status, body["error_code"], headers["connection"]) == (400, "MALFORMED_BODY", "close")
        assert_closed(client)


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_half_a_head_does_not_hold_a_connection(served: Gunicorn, sent: bytes) -> None:
    with connected(served) as client:
        client.sendall(sent)
        assert_closed(client)


def test_a_head_that_trickles_does_not_hold_a_connection(served: Gunicorn) -> None:
    with connected(served) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")

        def is_over() -> bool:
            try:
                client.sendall(b"X-Header: x\r\n")
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        eventually(is_over, NOT_FOR_EVER, every=0.1)


def test_a_connection_may_be_idle_between_two_requests(served: Gunicorn) -> None:
    with connected(served) as client:
        for _ in range(2):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer_on(client)[0] == 200
            time.sleep(1.5)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 what is this\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Split: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Nul: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: x\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * 20000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: magic\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx", 417),
    ],
)
def test_what_is_not_http_is_told_so_in_the_one_shape(served: Gunicorn, sent: bytes, status: int) -> None:
    with connected(served) as client:
        client.sendall(sent)
        answered, headers, body = answer_on(client)

        assert (answered, headers["content-type"]) == (status, "application/json")
        assert set(body) == {"detail", "error_code", "timestamp"}
        assert body["error_code"] == "MALFORMED_BODY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"]
        assert_closed(client)


def test_a_header_cannot_be_smuggled_into_an_answer(served: Gunicorn) -> None:
    with httpx2.Client(base_url=served.url, timeout=NOT_FOR_EVER) as client:
        for name in ("X-Request-ID", "Origin", "Idempotency-Key", "Last-Event-ID"):
            answer = client.get("/health/live", headers={name: "a\tSet-Cookie: b"})
            assert answer.status_code == 200
            assert "set-cookie" not in answer.text.lower() + str(answer.headers).lower()


def test_health_answers_when_streams_fill_the_process(served: Gunicorn) -> None:
    """45 of one key, 60 in all; 40 connections of the server's own."""
    with httpx2.Client(base_url=served.url, timeout=NOT_FOR_EVER) as client:
        api, bob = Api(client), Api(client, "bob-key")
        streams = [client.build_request("GET", f"/api/v1/sessions/{api.create()}/stream", headers=api.headers)] * 46
        streams += [client.build_request("GET", f"/api/v1/sessions/{bob.create()}/stream", headers=bob.headers)] * 16
        opened = [client.send(request, stream=True) for request in streams]
        statuses = [answer.status_code for answer in opened]
        assert statuses == [200] * 45 + [429] + [200] * 15 + [503]
        for refused in (opened[45], opened[-1]):
            assert refused.json() if refused.read() else None
            assert refused.json()["error_code"] == "TOO_MANY_STREAMS"
            assert int(refused.headers["Retry-After"]) > 0

        assert client.get("/health/live").status_code == 200
        assert client.get("/health").status_code == 200
        shown = client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]
        assert shown["total_connections"] == 60

        for answer in opened:
            answer.close()
        # What is gone is noticed at the next heartbeats.
        eventually(
            lambda: (
                client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]["total_connections"] < 60
            ),
            60,
        )
