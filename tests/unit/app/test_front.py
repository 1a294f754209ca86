"""What is decided before anybody is asked: keys, paths, bodies; and what is said when nobody answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from flask import request

from app import create_app
from app.web import open_web

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from core.settings import Settings

SOME_ID = "01a20876-96f3-7641-a7dd-835fac400188"
JSON = {"Content-Type": "application/json"}
ROUTES = [
    ("POST", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions"),
    ("GET", f"/api/v1/sessions/{SOME_ID}"),
    ("DELETE", f"/api/v1/sessions/{SOME_ID}"),
    ("GET", f"/api/v1/sessions/{SOME_ID}/output"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/input"),
    ("GET", f"/api/v1/sessions/{SOME_ID}/inputs"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/signal"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/interrupt"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/eof"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/resize"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/extend"),
    ("POST", f"/api/v1/sessions/{SOME_ID}/wait"),
    ("GET", f"/api/v1/sessions/{SOME_ID}/stream"),
    ("GET", "/api/v1/sessions/no-id"),
]
SHOWING = [(method, path) for method, path in ROUTES if method == "GET"]
READING = [*SHOWING, ("POST", f"/api/v1/sessions/{SOME_ID}/wait")]
WRITING = [route for route in ROUTES if route not in READING]


def is_error(answer: Any, status: int, code: str) -> bool:
    body = answer.get_json()
    assert set(body) - {"errors"} == {"detail", "error_code", "timestamp"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    return (answer.status_code, body["error_code"]) == (status, code)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic cm9vdC1rZXk6", "root-key"])
def test_no_route_is_open(client: FlaskClient, method: str, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = client.open(path, method=method, headers=headers)

    assert is_error(answer, 401, "API_KEY_REQUIRED")
    assert answer.get_json()["detail"] == "API key required"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", ["wrong", "root-key2", "ROOT-KEY", "root\xff"])
def test_a_wrong_key_opens_nothing(client: FlaskClient, method: str, path: str, key: str) -> None:
    answer = client.open(path, method=method, headers={"Authorization": f"Bearer {key}"})

    assert is_error(answer, 401, "INVALID_API_KEY")
    assert answer.get_json()["detail"] == "Invalid API key"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token", "authorization", "API_KEY"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_key_in_the_url_is_refused_even_beside_a_good_one(
    client: FlaskClient, ada: dict[str, str], method: str, path: str, name: str
) -> None:
    answer = client.open(path, method=method, headers=ada, query_string={name: "ada-key"})

    assert is_error(answer, 400, "KEY_IN_QUERY")


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_who_may_read_may_not_write(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, headers={"Authorization": "Bearer reader-key"})

    assert is_error(answer, 403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize(("method", "path"), READING)
def test_who_may_write_may_not_read(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, headers={"Authorization": "Bearer writer-key"})

    assert is_error(answer, 403, "INSUFFICIENT_PERMISSIONS")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1", "/api/v1/sessions/", "//health", "/api/v1/nothing", "/api/v2/sessions"]
)
def test_an_unknown_path_is_said_so_in_the_one_shape(client: FlaskClient, path: str) -> None:
    assert is_error(client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/api/v1/sessions"), ("POST", "/health"), ("BREW", "/api/v1/sessions")]
)
def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)

    assert is_error(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{}", {}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{", JSON, 400, "MALFORMED_BODY"),
        (b"", JSON, 400, "MALFORMED_BODY"),
        (b"{}", JSON, 422, "VALIDATION_FAILED"),
        (b"[]", JSON, 422, "VALIDATION_FAILED"),
        (b'{"query": "\\u0000", "input": "\\u0000"}', JSON, 422, "VALIDATION_FAILED"),
        (b" " * (1024 * 1024 + 1), JSON, 413, "BODY_TOO_LARGE"),
        (b"{}", JSON | {"Transfer-Encoding": "chunked"}, 411, "LENGTH_REQUIRED"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/sessions", f"/api/v1/sessions/{SOME_ID}/input"])
def test_a_bad_body_is_refused_in_words(
    client: FlaskClient, ada: dict[str, str], path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    assert is_error(client.post(path, data=body, headers=ada | headers), status, code)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "status=nonsense",
        "status=active&status=x",
        "user_id=",
        "user_id=a%00b",
    ],
)
def test_a_bad_filter_is_refused(client: FlaskClient, ada: dict[str, str], query: str) -> None:
    assert is_error(client.get(f"/api/v1/sessions?{query}", headers=ada), 422, "VALIDATION_FAILED")


@pytest.mark.parametrize("query", ["wait=26", "wait=-1", "wait=nan", "wait=soon", "reason=", "reason=%00"])
def test_a_bad_wish_to_terminate_is_refused(client: FlaskClient, ada: dict[str, str], query: str) -> None:
    answer = client.delete(f"/api/v1/sessions/{SOME_ID}?{query}", headers=ada)

    assert is_error(answer, 422, "VALIDATION_FAILED")


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "offset=1e3", "limit=0", "limit=9000000", "encoding=utf-7"])
def test_a_bad_place_in_the_output_is_refused(client: FlaskClient, ada: dict[str, str], query: str) -> None:
    answer = client.get(f"/api/v1/sessions/{SOME_ID}/output?{query}", headers=ada)

    assert is_error(answer, 400, "INVALID_POSITION")


@pytest.mark.parametrize(("method", "path"), SHOWING)
def test_without_the_database_a_client_is_asked_to_come_again(
    client: FlaskClient, ada: dict[str, str], method: str, path: str
) -> None:
    answer = client.open(path, method=method, headers=ada)

    assert is_error(answer, 503, "DATABASE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_session_is_not_taken_on_without_the_database(client: FlaskClient, ada: dict[str, str]) -> None:
    answer = client.post("/api/v1/sessions", json={"query": "true"}, headers=ada)

    assert is_error(answer, 503, "DATABASE_UNAVAILABLE")


def test_health_without_the_database_is_bad_but_this_process_lives(client: FlaskClient) -> None:
    assert client.get("/health/live").status_code == 200
    assert is_error(client.get("/health/ready"), 503, "DATABASE_UNAVAILABLE")

    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.get_json()["status"] == "unhealthy"
    trouble = "PostgreSQL is down: nothing listens where DATABASE_URL points"
    assert answer.get_json()["infrastructure"]["database"] == {"status": "unhealthy", "stats": {"trouble": trouble}}


def test_a_process_that_leaves_is_not_ready_and_lives(settings: Settings) -> None:
    web = open_web(settings)
    client = create_app(world=web).test_client()
    web.hub.goodbye()

    assert client.get("/health/live").status_code == 200
    answer = client.get("/health/ready")
    assert is_error(answer, 503, "LEAVING")
    assert answer.headers["Retry-After"] == "1"
    web.close()


def test_metrics_do_without_the_database(client: FlaskClient) -> None:
    client.get("/health/live")

    answer = client.get("/metrics")

    assert answer.status_code == 200
    assert 'jelmore_http_requests_total{method="GET",route="/health/live",status="200"}' in answer.text


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 128])
def test_a_decent_request_id_comes_back(client: FlaskClient, given: str) -> None:
    assert client.get("/health/live", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ä", "<script>"])
def test_any_other_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/health/live", headers={"X-Request-ID": given})

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/nothing", "/api/v1/sessions"])
def test_every_answer_carries_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Request-ID"]


def test_invented_methods_do_not_grow_the_metrics(client: FlaskClient) -> None:
    client.open("/nothing", method="INVENTED")

    assert "INVENTED" not in client.get("/metrics").text


@pytest.mark.parametrize(("hops", "address"), [("0", "10.0.0.9"), ("1", "10.0.0.2"), ("2", "10.0.0.1")])
def test_only_as_many_proxies_are_believed_as_there_are(settings: Settings, hops: str, address: str) -> None:
    web = open_web(settings.model_copy(update={"trusted_proxy_hops": int(hops)}))
    app = create_app(world=web)
    app.add_url_rule("/who", view_func=lambda: str(request.remote_addr))

    answer = app.test_client().get(
        "/who", headers={"X-Forwarded-For": "10.0.0.1, 10.0.0.2"}, environ_base={"REMOTE_ADDR": "10.0.0.9"}
    )

    assert answer.text == address
