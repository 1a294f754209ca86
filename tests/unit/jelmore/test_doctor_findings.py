"""What `jelmore doctor` says of what it found: each fault by itself, in words, and nothing of it when all is well."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jelmore.doctor import report
from jelmore.doctor.facts import Canary, Channel, Inside, Outside, Reached, Refusal
from jelmore.doctor.findings import Finding, of_inside
from jelmore.doctor.outside import of_canary, of_outside

WORKER = {"name": "one", "host": "here", "build": "1+a", "slots": 8, "silent_seconds": 1.0}
WELL: dict[str, Any] = {
    "build": "1+a",
    "mirrored": True,
    "postgres": {"version": "18.1", "clock_ahead_seconds": 0.01},
    "migrations": {"at": "0006_webhooks", "newest": "0006_webhooks"},
    "workers": [WORKER],
    "housekeeping_silent_seconds": 2.0,
    "mirror": {"silent_seconds": 3.0},
    "webhooks": {"active": 1, "waiting": 0, "silent_seconds": 1.0},
    "redis": {"version": "Valkey 9.1.0", "policy": "noeviction"},
    "nats": {"version": "2.15.0"},
}
PARTS: dict[str, Any] = {
    "database": {"status": "healthy"},
    "migrations": {"status": "healthy", "stats": {"at": "0006", "newest": "0006", "pending": []}},
    "clock": {"status": "healthy", "stats": {"seconds_ahead_of_database": 0.0}},
    "redis": {"status": "healthy"},
    "nats": {"status": "not_configured"},
    "broker": {"status": "healthy"},
    "workers": {"status": "healthy", "stats": {"alive": 2, "slots": 16, "other_code": 0}},
    "webhooks": {"status": "healthy", "stats": {"active": 0, "waiting": 0}},
}


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.says for finding in findings if finding.state == "wrong"]


def inside(**differs: Any) -> list[str]:
    return wrong([*of_inside(Inside.model_validate(WELL | differs))])


def health(**differs: Any) -> list[str]:
    said = {"service": "jelmore-integrated-api", "version": "1", "infrastructure": PARTS | differs}
    return wrong([*of_outside(Outside(Reached("http://jelmore", None, 200, said, 0.1)))])


def channel(**differs: Any) -> Channel:
    return Channel(
        **{"opened_after": 0.01, "echo_after": 0.02, "sign_after": 15.0, "again": True, "ended": True} | differs
    )


def flown(**differs: Any) -> list[str]:
    good: dict[str, Any] = {
        "replayed": True,
        "request_id_kept": True,
        "started": True,
        "status": "active",
        "printed": True,
        "stream": channel(),
        "socket": channel(),
        "resumed": True,
    }
    return wrong([*of_canary(Canary(**good | differs))])


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert inside() == []
    assert health() == []
    assert flown() == []


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"faults": ["PORT is no number."]}, "PORT is no number."),
        ({"postgres": {"trouble": "PostgreSQL is down: …"}, "migrations": None, "workers": None}, "PostgreSQL is down"),
        ({"redis": {"trouble": "Redis is down: …"}}, "Redis is down"),
        ({"redis": {"version": "Redis 7", "policy": "allkeys-lru"}}, "evicts keys"),
        ({"redis": {"version": "Redis 7", "cluster": True}}, "Redis Cluster"),
        ({"broker": {"trouble": "the broker is down: …"}}, "The broker is down"),
        ({"nats": {"trouble": "NATS is down: …"}}, "NATS is down"),
        ({"refused": "permission denied for table workers"}, "permission denied"),
        ({"workers": []}, "No worker is alive"),
        ({"workers": [WORKER | {"silent_seconds": 60.0}]}, "No worker is alive"),
        ({"workers": [WORKER | {"build": "1+b"}]}, "Worker one on here runs other code (1+b)"),
        ({"workers": [WORKER | {"draining": True}]}, "Every worker is leaving"),
        ({"migrations": {"at": "0005", "newest": "0006_new", "pending": ["0006_new"]}}, "A migration is pending: 0006_new"),
        ({"postgres": {"version": "18", "clock_ahead_seconds": 300.0}}, "clock is 5 minutes ahead of PostgreSQL's"),
        ({"postgres": {"version": "18", "clock_ahead_seconds": -300.0}}, "clock is 5 minutes behind PostgreSQL's"),
        ({"housekeeping_silent_seconds": None}, "Housekeeping has never run"),
        ({"housekeeping_silent_seconds": 3600.0}, "Housekeeping has not run for 60 minutes"),
        ({"mirror": None}, "No mirror is running"),
        ({"mirror": {"silent_seconds": 100.0}}, "No mirror is running"),
        ({"mirror": {"silent_seconds": 1.0, "trouble": "NATS takes nothing"}}, "The mirror says: NATS takes nothing"),
        ({"events_waiting_seconds": 600.0}, "The mirror is 10 minutes behind"),
        ({"webhooks": {"active": 1, "silent_seconds": -1}}, "Nobody delivers"),
    ],
)  # fmt: skip
def test_each_fault_inside_is_named_alone(differs: dict[str, Any], says: str) -> None:
    (said,) = inside(**differs)
    assert says in said


UNHEALTHY = {"status": "unhealthy"}


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"database": UNHEALTHY | {"stats": {"trouble": "PostgreSQL refuses the user or the password"}}}, "PostgreSQL refuses"),
        ({"database": UNHEALTHY}, "PostgreSQL does not answer the web process"),
        ({"redis": UNHEALTHY, "broker": UNHEALTHY}, "Redis does not answer the web process"),
        ({"redis": UNHEALTHY | {"stats": {"rate_limits": "per process"}}}, "too slowly"),
        ({"nats": UNHEALTHY | {"stats": {"trouble": "NATS does not let us in: no servers"}}}, "NATS does not let us in"),
        ({"workers": UNHEALTHY | {"stats": {"alive": 0, "slots": 0, "other_code": 0}}}, "No worker is alive"),
        ({"workers": {"status": "healthy", "stats": {"alive": 2, "slots": 8, "other_code": 1}}}, "1 of 2 workers runs other code"),
        ({"migrations": UNHEALTHY | {"stats": {"pending": ["0006_webhooks"]}}}, "A migration is pending: 0006_webhooks"),
        ({"clock": UNHEALTHY | {"stats": {"seconds_ahead_of_database": 300.0}}}, "The web process's clock is 5 minutes ahead"),
        ({"webhooks": UNHEALTHY | {"stats": {"trouble": "no process delivers to webhooks"}}}, "no process delivers"),
    ],
)  # fmt: skip
def test_each_fault_that_health_tells_is_named_alone(differs: dict[str, Any], says: str) -> None:
    (said,) = health(**differs)
    assert says in said


@pytest.mark.parametrize(
    ("reached", "says"),
    [
        (Reached("http://j", trouble="Connection refused"), "http://j does not answer: Connection refused."),
        (Reached("http://j", status=502), "not Jelmore (HTTP 502)"),
        (Reached("http://j", status=404), "not Jelmore (HTTP 404)"),
        (Reached("http://j", None, 200, {"infrastructure": PARTS}, 300.0), "clock is 5 minutes ahead of the web process's"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_address_is_named(reached: Reached, says: str) -> None:
    (said,) = wrong([*of_outside(Outside(reached))])
    assert says in said


NOTHING = channel(echo_after=None, sign_after=None, again=None)


@pytest.mark.parametrize(
    ("differs", "says"),
    [
        ({"refusal": Refusal(401, "INVALID_API_KEY", "Invalid API key")}, "does not know this key"),
        ({"refusal": Refusal(401, "API_KEY_REQUIRED", "API key required")}, "removes the Authorization header"),
        ({"refusal": Refusal(401, None, "Log in")}, "wants a log-in of its own"),
        ({"refusal": Refusal(403, "INSUFFICIENT_PERMISSIONS", "no")}, "may not create"),
        ({"refusal": Refusal(422, "UNKNOWN_PROGRAM", "shell is off")}, "not enabled: shell is off."),
        ({"refusal": Refusal(429, "RATE_LIMITED", "Rate limit exceeded", "30")}, "A limit was reached"),
        ({"refusal": Refusal(413, None, "too large")}, "answered HTTP 413 instead of the service"),
        ({"refusal": Refusal(503, "DATABASE_UNAVAILABLE", "away")}, "503 DATABASE_UNAVAILABLE"),
        ({"trouble": "its program ended at once", "started": True}, "broke off: its program ended at once"),
        ({"started": False, "status": "initializing"}, "has not started: it is `initializing`"),
        ({"replayed": False}, "Idempotency-Key is lost"),
        ({"request_id_kept": False}, "X-Request-ID is lost"),
        ({"resumed": False}, "Last-Event-ID is lost"),
        ({"stream": channel(echo_after=None, late=True)}, "buffers event streams: output was there and came only at"),
        ({"stream": channel(echo_after=None, ended=False)}, "buffers event streams: output was there and did not come"),
        ({"stream": channel(cut_after=10.01, again=None, ended=False)}, "event stream is cut by the proxy after 10 s"),
        ({"stream": channel(echo_after=None, cut_after=2.0, ended=False)}, "cut by the proxy after 2 s"),
        ({"stream": channel(again=False)}, "goes dead after a silence"),
        ({"stream": channel(ended=False)}, "does not tell the session's end"),
        ({"stream": Channel(broke="connection reset")}, "could not be opened: connection reset"),
        ({"stream": Channel(refusal=Refusal(429, "RATE_LIMITED", "Too many", "5"))}, "A limit was reached"),
        ({"stream": NOTHING, "socket": NOTHING, "printed": False}, "was not printed in time"),
        ({"socket": Channel(refusal=Refusal(426, None, ""))}, "WebSockets are blocked: the handshake was answered with HTTP 426"),
        ({"socket": Channel(broke="the connection was closed")}, "WebSockets are blocked: the connection was closed"),
        ({"socket": Channel(refusal=Refusal(429, "RATE_LIMITED", "Too many"))}, "A limit was reached"),
        ({"socket": NOTHING}, "A WebSocket opens and nothing comes"),
        ({"socket": channel(cut_after=10.0, again=None, ended=False)}, "A WebSocket is cut by the proxy after 10 s"),
    ],
)  # fmt: skip
def test_each_fault_on_the_way_is_named_alone(differs: dict[str, Any], says: str) -> None:
    (said,) = flown(**differs)
    assert says in said


def test_what_is_wrong_stands_last_and_is_counted() -> None:
    findings = [*of_inside(Inside.model_validate(WELL | {"workers": []}))]
    lines = report.as_text(findings).splitlines()

    assert lines[-1] == "1 thing is wrong."
    assert lines[0] == "ok     The configuration is valid."
    assert [line for line in lines if line.startswith("WRONG")] == [lines[-4]]
    assert report.as_text(findings[:1]).endswith("\nAll is well.")


def test_json_has_every_finding() -> None:
    findings = [*of_inside(Inside.model_validate(WELL | {"workers": []}))]
    told = json.loads(report.as_json(findings))

    assert told["well"] is False
    assert len(told["findings"]) == len(findings)
    assert {"about": "workers", "state": "wrong"}.items() <= told["findings"][-4].items()
