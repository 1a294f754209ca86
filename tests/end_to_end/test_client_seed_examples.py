"""What users were told first goes on working: the examples, as they were written, against a running installation."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests import seed_examples
from tests.needs import SYSTEM_PATH, needs
from tests.service import ADA

if TYPE_CHECKING:
    from tests.client import Client
    from tests.service import Service

HEALTH, METRICS = "healthy", "# HELP"


@pytest.fixture
def session_id(ada: Client) -> str:
    """A session that ends by itself in a moment."""
    return ada.create("echo one; sleep 0.5; echo two")


def run(command: str) -> str:
    """Run a command as a user would; return what it prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": SYSTEM_PATH, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(service: Service, heading: str, session_id: str) -> list[str]:
    needs("curl")
    return seed_examples.curl_commands(heading, service.port, ADA, session_id)


def is_health(said: str) -> bool:
    wanted = {"status", "service", "version", "timestamp", "infrastructure"}
    return wanted <= set(json.loads(said))


def is_stats(said: str) -> bool:
    wanted = {"service", "version", "timestamp", "uptime_seconds", "session_stats", "websocket_stats", "settings"}
    return wanted <= set(json.loads(said))


def test_every_curl_example_is_tried() -> None:
    assert set(seed_examples.CURL) == {
        "Manual Testing",
        "WebSocket Connection Failures",
        "Rate Limiting Issues",
        "Database Connection Issues",
        "Performance Debugging",
    }


def test_manual_testing(service: Service, session_id: str) -> None:
    health, create, stream = commands(service, "Manual Testing", session_id)

    assert is_health(run(health))
    created: dict[str, Any] = json.loads(run(create))
    assert (created["query"], created["user_id"], created["status"]) == ("Test query", "test-user", "initializing")
    events = run(stream)
    assert events.count("event: connected\n") == 1
    assert 'data: {"content":"one\\n"' in events
    assert events.rindex("event: terminated\n") > events.rindex('"content":"two\\n"')


def test_when_a_websocket_fails(service: Service, session_id: str) -> None:
    show, stats = commands(service, "WebSocket Connection Failures", session_id)

    assert json.loads(run(show))["session_id"] == session_id
    assert is_stats(run(stats))


def test_when_the_database_fails(service: Service, session_id: str) -> None:
    health, stats = commands(service, "Database Connection Issues", session_id)

    assert is_health(run(health))
    assert is_stats(run(stats))


def test_when_there_are_too_many_requests(service: Service, session_id: str) -> None:
    (head,) = commands(service, "Rate Limiting Issues", session_id)

    assert run(head).splitlines()[0].split()[1] == "200"


def test_when_it_is_slow(service: Service, session_id: str) -> None:
    needs("jq")
    stats, metrics = commands(service, "Performance Debugging", session_id)

    assert {"active_sessions_count", "service_running"} <= json.loads(run(stats)).keys()
    assert METRICS in run(metrics)


@pytest.mark.parametrize("client", ["their own", "ours"])
def test_the_python_client(service: Service, client: str) -> None:
    make = seed_examples.python_use if client == "ours" else seed_examples.python_example
    done = subprocess.run(
        [sys.executable, "-c", make(service.port, ADA)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Output: " in done.stdout
    assert "List: " in done.stdout  # the shell has no such program, and says so
