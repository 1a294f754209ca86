"""The API as users were told first: every endpoint, header, event and message of that description, on a running installation.

The limits are the description's own; each test has a key of its own, for a key may open five streams a minute.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx2
import pytest
from httpx2.websockets import WebSocketUpgradeError

from core.version import VERSION
from tests.checks import eventually
from tests.client import SESSIONS, Answer, Client
from tests.programs.shell import ANSWERS
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Event
    from tests.service import Service

ADMIN: Final = "the-admin-key"
WALKERS: Final = [f"walker-key-{number}" for number in range(1, 30)]
KEYS: Final = {
    ADMIN: {"permissions": ["admin"]},
    "a-user-key": {"permissions": ["read", "write"]},
    "a-reader-key": {"permissions": ["read"]},
    **{key: {"permissions": ["read", "write"]} for key in WALKERS},
}
RULES: Final = {
    "RATE_LIMIT_GLOBAL": "1000/hour",
    "RATE_LIMIT_AUTHENTICATION": "10/minute",
    "RATE_LIMIT_SESSION_CREATION": "20/minute",
    "RATE_LIMIT_STREAMING": "5/minute",
    "RATE_LIMIT_WEBSOCKET": "10/minute",
}
TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
RATE_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window")
UNKNOWN: Final = "550e8400-e29b-41d4-a716-446655440000"
SESSION_MEMBERS: Final = [
    "session_id",
    "status",
    "query",
    "current_directory",
    "user_id",
    "claude_process_id",
    "metadata",
    "created_at",
    "updated_at",
    "last_activity",
    "terminated_at",
    "output_buffer_size",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    settings = {
        "API_KEYS": json.dumps(KEYS),
        "MAX_CONCURRENT_SESSIONS": "100",
        "SESSION_DEFAULT_TIMEOUT_SECONDS": "3600",
        "SESSION_CLEANUP_INTERVAL_SECONDS": "300",
        "SESSION_MONITORING_INTERVAL_SECONDS": "30",
        "CORS_ORIGINS": '["*"]',
        "WORKER_SLOTS": "16",
        "TRUSTED_PROXY_HOPS": "1",
        **RULES,
    }
    with installed(tmp_path_factory.mktemp("complete"), new_database(), **settings) as started:
        started.start("one")
        yield started


@pytest.fixture(scope="module")
def walkers() -> Iterator[str]:
    return iter(WALKERS)


@pytest.fixture
def key(walkers: Iterator[str]) -> str:
    return next(walkers)


@pytest.fixture
def user(service: Service, key: str) -> Client:
    return service.client(key)


def said(answer: Answer, status: int) -> Any:
    """Check an answer's status and return its JSON."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def is_error(answer: Answer, status: int, code: str, detail: str | None = None) -> None:
    """Check that an answer is an error in the one shape."""
    body = said(answer, status)
    assert body["error_code"] == code
    assert detail is None or body["detail"] == detail
    assert TIMESTAMP.fullmatch(body["timestamp"])


def shown_as(user: Client, session_id: str, *statuses: str) -> dict[str, Any] | None:
    """Return a session if it is in one of these statuses."""
    shown = user.get(session_id)
    return shown if shown["status"] in statuses else None


# Sessions.


def test_a_session_is_created_shown_listed_and_terminated(service: Service, user: Client) -> None:
    directory = str(service.home)
    wanted = {
        "query": "sleep 60",
        "user_id": "optional-user-id",
        "current_directory": directory,
        "metadata": {"key": "value"},
        "timeout_minutes": 30,
    }
    answer = user.request("POST", SESSIONS, wanted)
    created = said(answer, 201)

    assert list(created)[: len(SESSION_MEMBERS)] == SESSION_MEMBERS
    assert answer.headers["Location"] == f"{SESSIONS}/{created['session_id']}"
    assert str(UUID(created["session_id"])) == created["session_id"]
    assert {name: created[name] for name in wanted if name != "timeout_minutes"} == {
        name: value for name, value in wanted.items() if name != "timeout_minutes"
    }
    assert (created["status"], created["claude_process_id"], created["terminated_at"]) == ("initializing", None, None)
    assert created["output_buffer_size"] == 0
    assert all(TIMESTAMP.fullmatch(created[name]) for name in ("created_at", "updated_at", "last_activity"))

    session_id = created["session_id"]
    shown = eventually(lambda: shown_as(user, session_id, "active", "idle"))
    assert list(shown) == list(created)
    assert shown["claude_process_id"].isdigit()

    for query in (
        "",
        "?user_id=optional-user-id",
        f"?status={shown['status']}",
        "?limit=1",
        "?user_id=optional-user-id&limit=1000",
    ):
        assert session_id in [one["session_id"] for one in said(user.request("GET", SESSIONS + query), 200)]
    assert said(user.request("GET", f"{SESSIONS}?user_id=somebody-else"), 200) == []
    for limit in ("0", "1001", "x"):
        is_error(user.request("GET", f"{SESSIONS}?limit={limit}"), 422, "VALIDATION_FAILED")

    ended = user.delete(session_id, "?reason=User%20terminated")
    assert said(ended, 200) == {
        "message": "Session terminated successfully",
        "session_id": session_id,
        "reason": "User terminated",
    }
    assert TIMESTAMP.fullmatch(user.get(session_id)["terminated_at"])
    assert said(user.delete(session_id), 200)["session_id"] == session_id


def test_only_a_query_is_needed(user: Client) -> None:
    created = said(user.request("POST", SESSIONS, {"query": "true"}), 201)

    assert (created["user_id"], created["metadata"]) == (None, {})
    nulls = {"query": "true", "user_id": None, "current_directory": None, "metadata": None, "timeout_minutes": None}
    assert said(user.request("POST", SESSIONS, nulls), 201)["metadata"] == {}


def test_output_is_read_and_input_sent(user: Client) -> None:
    session_id = user.create(ANSWERS)
    eventually(lambda: user.output(session_id))
    eventually(lambda: shown_as(user, session_id, "active", "idle", "waiting_input"))
    output = said(user.request("GET", f"{SESSIONS}/{session_id}/output"), 200)
    assert list(output)[:1] == ["session_id"]
    assert (output["session_id"], output["output"], output["output_length"]) == (session_id, "ready\n", 6)
    assert output["status"] in ("active", "idle", "waiting_input")
    assert TIMESTAMP.fullmatch(output["retrieved_at"])

    sent = {"input": "Command or input text", "metadata": {"source": "user_input"}}
    receipt = said(user.request("POST", f"{SESSIONS}/{session_id}/input", sent), 200)
    assert list(receipt)[:3] == ["message", "session_id", "input_length"]
    assert (receipt["message"], receipt["session_id"], receipt["input_length"]) == (
        "Input sent successfully",
        session_id,
        21,
    )
    eventually(lambda: user.output(session_id) == b"ready\ngot Command or input text\n")
    eventually(lambda: user.get(session_id)["output_buffer_size"] >= 6)  # a figure may be a second old
    user.delete(session_id)


# Server-Sent Events.


def test_the_stream_has_its_headers_and_events(user: Client) -> None:
    session_id = user.create("echo one; sleep 0.5; echo two")
    with user.follow(session_id) as stream:
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["Connection"] == "keep-alive"
        events = list(stream)

    connected, last = events[0], events[-1]
    assert (connected.event, connected.id, connected.data["session_id"]) == ("connected", None, session_id)
    assert last.event == "terminated"
    assert texts(events) == "one\ntwo\n"
    assert [event.data["status"] for event in events if event.event == "status"][-1] == "completed"
    assert all(TIMESTAMP.fullmatch(event.data["timestamp"]) for event in events)


def texts(events: list[Event]) -> str:
    return "".join(event.data["content"] for event in events if event.event == "output")


def test_events_are_written_as_described(service: Service, user: Client, key: str) -> None:
    session_id = user.create("echo one")
    user.events(session_id)
    url = f"http://127.0.0.1:{service.port}{SESSIONS}/{session_id}/stream"
    text = httpx2.get(url, headers={"Authorization": f"Bearer {key}"}).text
    blocks = [block.splitlines() for block in text.split("\n\n") if "data: " in block]

    for block in blocks:
        names = [line.partition(": ")[0] for line in block]
        assert names[-2:] == ["event", "data"]
        assert set(names) <= {"id", "retry", "event", "data"}
        assert json.loads(block[-1].removeprefix("data: "))["timestamp"]
    assert blocks[0][-2] == "event: connected"


# The WebSocket.


@contextmanager
def web_socket(service: Service, key: str, path: str) -> Iterator[Any]:
    """An open WebSocket, by the key in the header."""
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx2.Client(timeout=15) as client,
        client.websocket(
            f"http://127.0.0.1:{service.port}{path}", headers=headers, subprotocols=["jelmore.v1"]
        ) as opened,
    ):
        yield opened


def until(socket: Any, kind: str) -> dict[str, Any]:
    """Read messages up to the first of a kind."""
    for _ in range(100):
        message: dict[str, Any] = socket.receive_json(timeout=15)
        assert TIMESTAMP.fullmatch(message["timestamp"]), message
        if message["event"] == kind:
            return message
    raise AssertionError(f"no {kind}")


def test_the_web_socket_speaks_every_message(service: Service, user: Client, key: str) -> None:
    session_id = user.create(ANSWERS)
    with web_socket(service, key, f"{SESSIONS}/{session_id}/ws") as socket:
        info = socket.receive_json(timeout=15)
        assert (info["event"], info["session_id"]) == ("session_info", session_id)
        assert info["status"] in ("initializing", "active", "idle", "waiting_input")
        assert TIMESTAMP.fullmatch(info["timestamp"])

        assert until(socket, "output")["content"] == "ready\n"
        socket.send_json({"type": "ping"})
        until(socket, "pong")
        socket.send_json({"type": "get_status"})
        status = until(socket, "status_response")
        assert status["status"] in ("initializing", "active", "idle", "waiting_input")
        assert 0 <= status["output_size"] <= 6  # counted once a second
        socket.send_json({"type": "subscribe", "events": ["output", "status"]})
        assert until(socket, "subscribed")["events"] == ["output", "status"]
        socket.send_json({"type": "input", "content": "Command text"})
        assert until(socket, "input_received")["input_seq"] == 1
        eventually(lambda: user.output(session_id).endswith(b"got Command text\n"))

        socket.send_json({"type": "no such type"})
        assert until(socket, "error")["error_code"]
        socket.send_text("no json")
        until(socket, "error")
        user.delete(session_id)
        assert until(socket, "terminated")["status"] == "terminated"


def test_the_web_socket_of_a_strange_session_is_not_opened(service: Service, user: Client, key: str) -> None:
    others = service.client("a-user-key").create("sleep 60")
    refusals = {
        (key, UNKNOWN): 404,
        (key, others): 404,
        ("wrong", others): 401,
    }
    for (who, session_id), status in refusals.items():
        with (
            pytest.raises(WebSocketUpgradeError) as refused,
            web_socket(service, who, f"{SESSIONS}/{session_id}/ws"),
        ):
            pass
        assert refused.value.response.status_code == status
    service.client("a-user-key").delete(others)


# Monitoring.


def test_health_needs_no_key_and_has_its_shape(service: Service) -> None:
    health = said(service.client(None).request("GET", "/health"), 200)

    assert list(health) == ["status", "service", "version", "timestamp", "infrastructure"]
    assert (health["status"], health["service"], health["version"]) == ("healthy", "jelmore-integrated-api", VERSION)
    assert isinstance(health["timestamp"], float)
    assert abs(health["timestamp"] - time.time()) < 60
    sessions, sockets = (health["infrastructure"][name] for name in ("session_service", "websocket_manager"))
    assert sessions["status"] == sockets["status"] == "healthy"
    assert set(sessions["stats"]) >= {"active_sessions_count", "service_running"}
    assert set(sockets["stats"]) >= {"total_connections", "sessions_with_connections"}


def test_metrics_need_no_key(service: Service) -> None:
    answer = service.client(None).request("GET", "/metrics")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"# HELP " in answer.body


def test_stats_have_their_shape(service: Service) -> None:
    is_error(service.client(None).request("GET", "/api/v1/stats"), 401, "API_KEY_REQUIRED")
    stats = said(service.client(ADMIN).request("GET", "/api/v1/stats"), 200)

    assert (stats["service"], stats["version"]) == ("jelmore-integrated-api", VERSION)
    assert isinstance(stats["timestamp"], float)
    assert stats["uptime_seconds"] >= 0
    assert set(stats["session_stats"]) >= {"active_sessions_count", "service_running"}
    assert stats["session_stats"]["monitoring_interval_seconds"] == 30
    assert stats["session_stats"]["cleanup_interval_seconds"] == 300
    assert set(stats["websocket_stats"]) >= {"total_connections", "sessions_with_connections", "manager_running"}
    assert {name: stats["settings"][name] for name in SETTINGS} == SETTINGS


SETTINGS: Final = {
    "max_concurrent_sessions": 100,
    "session_timeout_seconds": 3600,
    "cleanup_interval_seconds": 300,
    "api_prefix": "/api",
    "cors_origins": ["*"],
}


# Keys and permissions.


def test_every_endpoint_but_health_and_metrics_needs_a_key(service: Service) -> None:
    endpoints = {
        "POST": ["", f"/{UNKNOWN}/input"],
        "GET": ["", f"/{UNKNOWN}", f"/{UNKNOWN}/output", f"/{UNKNOWN}/stream"],
        "DELETE": [f"/{UNKNOWN}"],
    }
    for method, paths in endpoints.items():
        for path in paths:
            answer = service.client(None).request(method, SESSIONS + path)
            is_error(answer, 401, "API_KEY_REQUIRED", "API key required")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    is_error(service.client("wrong").request("GET", SESSIONS), 401, "INVALID_API_KEY", "Invalid API key")


def test_keys_have_the_permissions_of_the_environment(service: Service) -> None:
    reads = service.client("a-reader-key")

    assert said(reads.request("GET", SESSIONS), 200) == []
    is_error(reads.request("POST", SESSIONS, {"query": "true"}), 403, "INSUFFICIENT_PERMISSIONS")
    assert said(service.client(ADMIN).request("GET", SESSIONS), 200) is not None


# Errors.


def test_errors_have_one_shape_and_the_described_statuses(user: Client) -> None:
    is_error(user.request("POST", SESSIONS, b"{", headers={"Content-Type": "application/json"}), 400, "MALFORMED_BODY")
    is_error(user.request("POST", SESSIONS, {"query": ""}), 422, "VALIDATION_FAILED")
    is_error(user.request("POST", SESSIONS, {"query": "true", "timeout_minutes": 0}), 422, "VALIDATION_FAILED")
    for path in ("", "/output", "/stream"):
        is_error(user.request("GET", f"{SESSIONS}/{UNKNOWN}{path}"), 404, "SESSION_NOT_FOUND")
    is_error(user.request("DELETE", f"{SESSIONS}/{UNKNOWN}"), 404, "SESSION_NOT_FOUND")
    is_error(user.request("POST", f"{SESSIONS}/{UNKNOWN}/input", {"input": ""}), 404, "SESSION_NOT_FOUND")
    is_error(user.request("GET", "/api/v1/nothing"), 404, "NOT_FOUND")


# Rate limits.


def test_every_answer_says_what_is_left(user: Client) -> None:
    first, second = (user.request("GET", SESSIONS) for _ in range(2))

    for name in RATE_HEADERS:
        assert first.headers[name].isdigit(), name
    assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Window"]) == ("1000", "3600")
    assert int(second.headers["X-RateLimit-Remaining"]) == int(first.headers["X-RateLimit-Remaining"]) - 1
    assert 0 <= int(first.headers["X-RateLimit-Reset"]) - time.time() <= 3601


@pytest.mark.parametrize(
    ("rule", "limit"),
    [("session_creation", 20), ("streaming", 5)],
)
def test_one_too_many_is_told_when_to_come_again(user: Client, rule: str, limit: int) -> None:
    if rule == "session_creation":
        method, path, body = "POST", SESSIONS, {"query": ""}  # counted, and refused for what it is
    else:
        method, path, body = "GET", f"{SESSIONS}/{user.create('true')}/stream", None
    *before, last = [user.request(method, path, body) for _ in range(limit + 1)]

    assert 429 not in [answer.status for answer in before]
    refusal = said(last, 429)
    assert (
        refusal.items()
        >= {"error": "Rate limit exceeded", "limit": limit, "window_seconds": 60, "remaining": 0}.items()
    )
    assert refusal["message"] == f"Too many requests: {limit} per 60 seconds"
    assert 1 <= refusal["retry_after"] <= 60
    assert last.headers["Retry-After"] == str(refusal["retry_after"])
    is_error(last, 429, "RATE_LIMITED")


def test_wrong_keys_are_counted(service: Service) -> None:
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}  # they are counted by address
    answers = [service.client("wrong").request("GET", SESSIONS, headers=elsewhere) for _ in range(11)]

    assert [answer.status for answer in answers] == [401] * 10 + [429]


# Browsers.


def test_pages_of_any_origin_may_ask(user: Client) -> None:
    page = {"Origin": "https://page.example"}
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = Client(user.port, None).request("OPTIONS", SESSIONS, headers=page | wanted)
    answer = user.request("GET", SESSIONS, headers=page)

    assert preflight.status in (200, 204)
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "idempotency-key", "last-event-id"))
    for each in (preflight, answer):
        assert each.headers["Access-Control-Allow-Origin"] in ("*", page["Origin"])
        assert "Access-Control-Allow-Credentials" not in each.headers
    exposed = answer.headers["Access-Control-Expose-Headers"].lower()
    assert all(name.lower() in exposed for name in (*RATE_HEADERS, "X-Request-ID", "Retry-After", "Link", "Location"))


# The life of a session, as events.


def test_what_happens_is_written_as_events(service: Service, user: Client) -> None:
    session_id = user.create("echo here", user_id="user-123")
    user.events(session_id)
    query = "SELECT event_type, payload, actor FROM events WHERE session_id = %s ORDER BY transaction, position"
    rows = service.rows(query, session_id)

    kind, payload, actor = rows[0]
    assert kind == "session.created"
    assert payload.items() >= {"query": "echo here", "user_id": "user-123", "created_by": actor}.items()
    assert len(rows) > 2
