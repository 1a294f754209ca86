"""Browsers: whose pages may call, what they are told, and that a foreign one gets nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest

from app import create_app
from app.web import open_web
from core.settings import load_settings
from tests.integration.app.serving import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS, THEIRS = "https://app.example.org", "https://evil.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
EXPOSED = {
    *("Location", "Link", "X-Total-Count", "X-Request-ID", "Retry-After", "Idempotency-Replayed", "Content-Range"),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window"),
}


@pytest.fixture
def with_origins(variables: dict[str, str]) -> Iterator[Callable[[str], Api]]:
    """Serve with these CORS_ORIGINS."""
    opened = []

    def serve(origins: str, **more: str) -> Api:
        web = open_web(load_settings({**variables, "CORS_ORIGINS": origins, **more}))
        opened.append(web)
        client = httpx2.Client(transport=httpx2.WSGITransport(app=create_app(world=web)), base_url="http://web")
        return Api(client)

    yield serve
    for web in opened:
        web.close()


def test_outside_production_every_page_may_call(api: Api) -> None:
    answer = api.get("/sessions", headers={"Origin": THEIRS})

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {*answer.headers["Access-Control-Expose-Headers"].split(", ")} >= EXPOSED
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/sessions", "/sessions/x/stream", "/nothing"])
def test_a_preflight_needs_no_key(api: Api, path: str) -> None:
    answer = api.client.options(f"/api/v1{path}", headers={"Origin": OURS, **PREFLIGHT})

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert {"GET", "POST", "DELETE"} <= {*answer.headers["Access-Control-Allow-Methods"].split(", ")}
    allowed = answer.headers["Access-Control-Allow-Headers"]
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} <= {*allowed.split(", ")}
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


def test_errors_can_be_read_by_pages_too(api: Api) -> None:
    for answer in (
        api.client.get("/api/v1/sessions", headers={"Origin": OURS}),
        api.get("/nothing", headers={"Origin": OURS}),
        api.client.get("/health/live", headers={"Origin": OURS}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_of_a_list_each_origin_is_named_and_others_are_refused(with_origins: Callable[[str], Api]) -> None:
    api = with_origins(f"{OURS},http://localhost:3000")
    answer = api.get("/sessions", headers={"Origin": OURS})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, OURS)
    assert "Origin" in answer.headers["Vary"]
    assert "Origin" in api.get("/sessions").headers["Vary"]

    for origin in (THEIRS, "null", "", "https://app.example.org.evil.net", "http://app.example.org", f"{OURS}/"):
        refused = api.get("/sessions", headers={"Origin": origin})
        assert (refused.status_code, refused.json()["error_code"]) == (403, "INSUFFICIENT_PERMISSIONS"), origin
        assert "Access-Control-Allow-Origin" not in refused.headers
        preflight = api.client.options("/api/v1/sessions", headers={"Origin": origin, **PREFLIGHT})
        assert preflight.status_code == 403
        assert "Access-Control-Allow-Methods" not in preflight.headers


def test_in_production_only_our_own_pages_and_programs_may_call(with_origins: Callable[..., Api]) -> None:
    key = "k" * 32
    keys = {key: {"permissions": ["read", "write"], "name": "ada"}}
    api = with_origins("", JELMORE_ENV="production", DEFAULT_PROGRAM="echo", API_KEYS=json.dumps(keys)).as_(key)

    assert api.get("/sessions").status_code == 200
    assert api.get("/sessions", headers={"Origin": "http://web"}).status_code == 200
    assert api.get("/sessions", headers={"Origin": THEIRS}).status_code == 403
    created = api.post("/sessions", {"query": "true"}, headers={"Origin": THEIRS})
    assert created.status_code == 403


def test_probes_answer_whoever_asks(with_origins: Callable[[str], Api]) -> None:
    client = with_origins(OURS).client

    for path in ("/health/live", "/health", "/metrics"):
        answer = client.get(path, headers={"Origin": THEIRS})
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_security_headers_are_everywhere(api: Api) -> None:
    session_id = api.create()
    for answer in (
        api.get("/sessions"),
        api.get(f"/sessions/{session_id}/output"),
        api.get(f"/sessions/{session_id}/output", headers={"Accept": "text/plain"}),
        api.call("HEAD", f"/sessions/{session_id}/stream"),
        api.client.get("/nothing"),
        api.client.get("/metrics"),
        api.client.options("/api/v1/sessions", headers={"Origin": OURS, **PREFLIGHT}),
        api.client.get("/api/v1/sessions"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["X-Request-ID"]
