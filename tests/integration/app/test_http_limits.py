"""Rate limits: counted in Redis by all web processes together, by each alone while Redis is away."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from app.counters import WAIT_SECONDS
from tests.checks import eventually
from tests.integration.app.serving import Api, Gunicorn
from tests.proxy import proxied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from app.web import Web
    from jelmore.embedded import Valkey
    from tests.integration.app.holder import Holder

KEYS = {
    "root-key": {"permissions": ["admin"], "name": "root"},
    "ada-key": {"permissions": ["read", "write"], "name": "ada"},
    "bob-key": {"permissions": ["read", "write"], "name": "bob"},
    "eve-key": {
        "permissions": ["read", "write"],
        "name": "eve",
        "rate_limits": {"session_creation": "2/minute", "streaming": None},
    },
}
RATES = {
    "RATE_LIMIT_GLOBAL": "100/hour",
    "RATE_LIMIT_AUTHENTICATION": "3/minute",
    "RATE_LIMIT_SESSION_CREATION": "5/minute",
    "RATE_LIMIT_STREAMING": "2/minute",
}
FOUR = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Window")
UNKNOWN = "01a20876-96f3-7641-a7dd-835fac400188"
MANY = 20


@pytest.fixture
def variables(variables: dict[str, str], web_redis: None) -> dict[str, str]:
    return {**variables, **RATES, "API_KEYS": json.dumps(KEYS), "TRUSTED_PROXY_HOPS": "1"}


@pytest.fixture
def web_redis(valkey: Valkey) -> None:
    """Nobody has done anything yet."""
    import redis

    redis.Redis.from_url(valkey.url, protocol=2).flushdb()


def standing(answer: httpx2.Response) -> tuple[int, int, int]:
    """Return (limit, remaining, window) of an answer, having looked at when the window ends."""
    limit, remaining, reset, window = (int(answer.headers[name]) for name in FOUR)
    assert time.time() - 1 <= reset <= time.time() + window + 1
    return limit, remaining, window


@contextmanager
def serving(variables: dict[str, str], log: Path) -> Iterator[httpx2.Client]:
    gunicorn = Gunicorn(variables, log)
    try:
        gunicorn.wait()
        with httpx2.Client(base_url=gunicorn.url, timeout=30) as client:
            yield client
    finally:
        gunicorn.stop()


def test_every_answer_says_where_one_stands_whatever_it_is(api: Api) -> None:
    answers = [
        api.get("/sessions"),
        api.get(f"/sessions/{UNKNOWN}"),
        api.get("/nothing"),
        api.call("PUT", "/sessions"),
        api.get("/sessions?limit=x"),
        api.get("/sessions?key=x"),
        api.client.get("/"),
        api.client.get("/api/v1/sessions"),
        api.call("HEAD", "/sessions"),
        api.call("OPTIONS", "/sessions"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 405, 422, 400, 404, 401, 200, 200]
    assert {standing(answer)[::2] for answer in answers} == {(100, 3600)}


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/metrics"])
def test_probes_are_not_counted(api: Api, path: str) -> None:
    assert not {*FOUR} & {*api.client.get(path).headers}


def test_each_request_leaves_one_less_and_each_key_has_its_own(api: Api) -> None:
    assert [standing(api.get("/sessions"))[1] for _ in range(3)] == [99, 98, 97]
    assert standing(api.as_("bob-key").get("/sessions"))[1] == 99


def test_what_is_refused_says_why_and_when_to_come_again(api: Api) -> None:
    for left in (4, 3, 2, 1, 0):
        answer = api.post("/sessions", {"query": "true"})
        assert (answer.status_code, standing(answer)) == (201, (5, left, 60))

    refused = api.post("/sessions", {"query": "true"})

    assert (refused.status_code, standing(refused)) == (429, (5, 0, 60))
    body: dict[str, Any] = refused.json()
    assert 1 <= body["retry_after"] <= 60
    assert refused.headers["Retry-After"] == str(body["retry_after"])
    assert body.pop("timestamp").endswith("Z")
    assert body.pop("retry_after")
    assert body == {
        "error": "Rate limit exceeded",
        "message": "Too many requests: 5 per 60 seconds",
        "limit": 5,
        "window_seconds": 60,
        "remaining": 0,
        "detail": "Too many requests: 5 per 60 seconds",
        "error_code": "RATE_LIMITED",
    }
    assert api.get("/sessions").status_code == 200


def test_the_global_rule_ends_everything_for_that_key(api: Api) -> None:
    statuses = Counter(api.get(f"/sessions/{UNKNOWN}").status_code for _ in range(101))

    assert statuses == {404: 100, 429: 1}
    assert api.post("/sessions", {"query": "true"}).json()["limit"] == 100
    assert api.as_("bob-key").get("/sessions").status_code == 200


def test_a_key_may_have_rates_of_its_own(api: Api) -> None:
    eve = api.as_("eve-key")
    answers = [eve.post("/sessions", {"query": "true"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert standing(answers[0]) == (2, 1, 60)
    session_id = answers[0].json()["session_id"]
    # Without a limit on streams, the global one is what is left.
    assert standing(eve.call("GET", f"/sessions/{session_id}/stream?after=9"))[0] == 100


def test_wrong_keys_are_counted_for_their_address_and_right_ones_pass(api: Api) -> None:
    def knock(key: str, address: str) -> httpx2.Response:
        return api.as_(key).get("/sessions", headers={"X-Forwarded-For": address})

    assert [knock(f"guess-{number}", "192.0.2.1").status_code for number in range(5)] == [401, 401, 401, 429, 429]
    assert standing(knock("guess", "192.0.2.1")) == (3, 0, 60)
    assert knock("guess", "192.0.2.2").status_code == 401
    assert knock("ada-key", "192.0.2.1").status_code == 200


def test_of_ipv6_a_whole_network_is_one_address(api: Api) -> None:
    answers = [
        api.as_("guess").get("/sessions", headers={"X-Forwarded-For": f"2001:db8::{number}"}) for number in range(1, 5)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


def test_who_names_no_key_is_counted_for_the_address_but_has_not_guessed(api: Api) -> None:
    nobody = api.client
    headers = {"X-Forwarded-For": "192.0.2.7"}

    answers = [nobody.get("/api/v1/sessions", headers=headers) for _ in range(5)]

    assert [(answer.status_code, standing(answer)[1]) for answer in answers] == [(401, 99 - n) for n in range(5)]


def test_a_stream_that_goes_on_counts_as_a_request_and_not_as_a_stream(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    run.write(b"line\n")
    run.end()

    path = f"/sessions/{session_id}/stream"
    anew = [api.get(path).status_code for _ in range(3)]
    assert anew == [200, 200, 429]
    for answer in (
        api.get(path, headers={"Last-Event-ID": "1"}),
        api.get(f"{path}?after=1"),
        api.call("HEAD", path),
    ):
        assert (answer.status_code, standing(answer)[0]) == (200, 100)
    assert api.get(f"{path}?after=0").status_code == 429


def test_two_processes_and_many_threads_admit_exactly_as_many_as_said(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]
) -> None:
    urls = [gunicorns({**variables, "WORKER_NAME": name}).url for name in ("a", "b")]

    def knock(number: int) -> int:
        with httpx2.Client(base_url=urls[number % 2], timeout=30) as client:
            return sum(Api(client, "bob-key").get("/sessions").status_code == 200 for _ in range(10))

    with ThreadPoolExecutor(MANY) as threads:
        admitted = sum(threads.map(knock, range(MANY)))

    assert admitted == 100


def test_a_restarted_or_emptied_redis_is_not_noticed(api: Api, web: Web) -> None:
    api.get("/sessions")
    web.redis.script_flush()
    assert standing(api.get("/sessions"))[1] == 98

    web.redis.flushdb()
    assert standing(api.get("/sessions"))[1] == 99


def test_without_redis_each_process_counts_alone_and_says_so(variables: dict[str, str], tmp_path: Path) -> None:
    with serving({**variables, "REDIS_URL": "redis://127.0.0.1:1/0"}, tmp_path / "log") as client:
        api = Api(client)
        assert [standing(api.get("/sessions"))[1] for _ in range(3)] == [99, 98, 97]
        statuses = [api.as_("guess").get("/sessions").status_code for _ in range(4)]
        assert statuses == [401, 401, 401, 429]

        health = client.get("/health").json()
        assert (health["status"], health["infrastructure"]["redis"]["status"]) == ("degraded", "unhealthy")
        assert "jelmore_rate_limits_alone_total 7.0" in client.get("/metrics").text


def test_a_silent_redis_is_waited_for_once_and_asked_again_later(
    variables: dict[str, str], valkey: Valkey, tmp_path: Path
) -> None:
    with proxied(valkey.url) as proxy, serving({**variables, "REDIS_URL": proxy.url}, tmp_path / "log") as client:
        api = Api(client)
        assert standing(api.get(f"/sessions/{UNKNOWN}"))[1] == 99
        proxy.black_hole()
        began = time.monotonic()
        answers = [api.get(f"/sessions/{UNKNOWN}") for _ in range(20)]
        seconds = time.monotonic() - began

        assert {answer.status_code for answer in answers} == {404}
        assert standing(answers[-1])[1] == 80
        assert seconds < 20 * WAIT_SECONDS / 2  # had each of them waited, it would be twice as much at least

        proxy.heal()
        # What this process counted alone it does not add: the others' count goes on.
        eventually(lambda: standing(api.get(f"/sessions/{UNKNOWN}"))[1] > 80, 15, every=0.5)


def test_a_redis_that_is_too_slow_is_one_that_is_away(
    variables: dict[str, str], valkey: Valkey, tmp_path: Path
) -> None:
    with proxied(valkey.url) as proxy, serving({**variables, "REDIS_URL": proxy.url}, tmp_path / "log") as client:
        api = Api(client)
        proxy.delay_seconds = 0.6 * WAIT_SECONDS  # each way: more than a request waits, less than health does
        assert api.get(f"/sessions/{UNKNOWN}").status_code == 404

        redis = client.get("/health").json()["infrastructure"]["redis"]

        assert redis == {"status": "unhealthy", "stats": {"rate_limits": "per process"}}


def test_rules_that_are_off_leave_no_headers(variables: dict[str, str], tmp_path: Path) -> None:
    off = dict.fromkeys(RATES, "")
    with serving({**variables, **off}, tmp_path / "log") as client:
        assert not {*FOUR} & {*Api(client).get("/sessions").headers}
        assert not {*FOUR} & {*client.get("/nothing").headers}
