"""Errors reach Sentry, a stand-in on loopback, once each, with where they come from and without secrets."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

START = """
import logging, os, sys
import structlog
from core import logs
from core.settings import load_settings
log = structlog.get_logger("ours")
logs.configure("worker", load_settings({settings!r}))
{program}
"""
KEYS = '{"a-key-of-somebody-else": {"permissions": ["read"]}}'


class Sentry(HTTPServer):
    """Keeps the events it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server_address[1]}/1"


class Taker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = [json.loads(line) for line in body.splitlines() if line]
        assert isinstance(self.server, Sentry)
        self.server.events += [item for head, item in pairwise(parts) if head.get("type") == "event"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    server = Sentry()
    yield server
    server.shutdown()
    server.server_close()


def run(program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    text = START.format(program=program, settings={"LOG_FORMAT": "json", "API_KEYS": KEYS} | settings)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60)


def test_an_error_is_told_with_its_traceback_and_without_secrets(sentry: Sentry) -> None:
    program = """
def use(key):
    local = 'a-key-of-somebody-else'
    raise RuntimeError(f'refused: {key}')
structlog.contextvars.bind_contextvars(request_id='r1')
log.warning('not this')
try:
    use('a-key-of-somebody-else')
except RuntimeError:
    log.exception('it failed', session_id='s1', address='redis://u:hush@h/0')
"""
    done = run(program, SENTRY_DSN=sentry.dsn, JELMORE_ENV="development")

    assert done.returncode == 0, done.stderr
    (event,) = sentry.events
    assert (event["level"], event["logger"], event["logentry"]["message"]) == ("error", "ours", "it failed")
    assert event["tags"] == {"process": "worker", "request_id": "r1", "session_id": "s1"}
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("RuntimeError", "refused: ***")
    assert [frame["function"] for frame in raised["stacktrace"]["frames"]] == ["<module>", "use"]
    assert event["release"].startswith("jelmore@")
    told = json.dumps(event)
    assert "a-key-of-somebody-else" not in told
    assert "hush" not in told
    assert "it failed" in done.stdout  # the log has it as ever


def test_the_last_words_of_a_process_are_told(sentry: Sentry) -> None:
    run("log.critical('it died'); os._exit(70)", SENTRY_DSN=sentry.dsn)

    assert [(event["level"], event["logentry"]["message"]) for event in sentry.events] == [("fatal", "it died")]


def test_a_library_s_error_is_told_too(sentry: Sentry) -> None:
    run("logging.getLogger('celery.worker').error('lost %s', 'it')", SENTRY_DSN=sentry.dsn)

    assert [event["logentry"]["message"] for event in sentry.events] == ["lost it"]


def test_sentry_away_costs_the_lines_nothing() -> None:
    done = run("log.error('it failed'); log.info('on it goes')", SENTRY_DSN="http://public@127.0.0.1:9/1")

    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["it failed", "on it goes"]


def test_a_wrong_address_is_said_and_not_shown() -> None:
    done = run("", SENTRY_DSN="not-an-address-with-hush")

    assert "SENTRY_DSN is no address of Sentry's." in done.stderr
    assert "hush" not in done.stderr.rpartition("ConfigurationError")[2]


def test_without_an_address_nothing_of_it_is_imported() -> None:
    done = run("log.error('x'); print(sorted(name for name in sys.modules if name.startswith('sentry')))")

    assert done.stdout.splitlines()[-1] == "[]"
