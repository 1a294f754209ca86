"""The Procfile as Heroku runs it: with its variables alone, Redis over TLS that nobody vouches for, SIGTERM to all at once."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg2
import pytest
import redis
from kombu.exceptions import OperationalError

from core.settings import load_settings
from core.start import CONFIGURATION_FAULTY
from jelmore.children import parse_procfile
from jelmore.embedded import Valkey
from jelmore.embedded.server import free_port
from jelmore.processes import dies_with_parent
from runner.marks import kill
from streams.redis import connect
from tasks.queue import make_app, open_broker
from tests.checks import eventually, family, is_alive, marked
from tests.client import Client
from tests.leaks import KNOWN, refuse
from tests.member import ROOT, Member
from tests.service import FULL_LENGTH
from tests.tls import behind_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.marks import Found

APP: Final = json.loads((ROOT / "app.json").read_text())
PROCFILE: Final = parse_procfile((ROOT / "Procfile").read_text())
READY_SECONDS: Final = 40.0
KILLED_AFTER_SECONDS: Final = 30.0
"""So long after SIGTERM Heroku sends SIGKILL."""
IDLE_SECONDS: Final = 55.0
"""So long Heroku's router waits for a byte."""
RUNNING: Final = "echo here; exec sleep 300"
DEAF: Final = "trap '' TERM; echo here; while :; do sleep 0.2; done"
OTHERS: Final = (*[RUNNING] * 4, *([DEAF] if FULL_LENGTH else []))
"""Beside the one that is followed. One that hears nothing is given WORKER_DRAIN_SECONDS."""


@dataclass
class Dyno(Member):
    """One process of the Procfile in what would be a container of its own."""

    directory: Path = ROOT

    def start(self) -> None:
        """Start it as Heroku does: by a shell, in the directory of the application. Main thread only."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["bash", "-c", *self.command],
                env=dict(self.env),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  (main thread only)
            )


@dataclass
class Application:
    """An application of Heroku's: its configuration, its dynos."""

    home: Path
    database_url: str
    redis_url: str
    port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    dynos: dict[str, Dyno] = field(default_factory=dict)

    def environment(self, dyno: str) -> dict[str, str]:
        """Return what app.json sets, what its author must set, and what Heroku and its add-ons do."""
        variables = {name: entry.get("value") for name, entry in APP["env"].items() if entry.get("required", True)}
        variables["API_KEYS"] = json.dumps({self.key: {"permissions": ["admin"], "name": "ops"}})
        assert None not in variables.values(), "app.json asks for something new"
        return variables | {
            "PROGRAMS_ENABLED": "shell",
            "FLOWER_BASIC_AUTH": f"ops:{self.password}",
            "DATABASE_URL": "postgres://" + self.database_url.partition("://")[2],
            "REDIS_URL": self.redis_url,
            "WEB_CONCURRENCY": "2",  # by the buildpack, as the dyno's memory allows
            "PORT": str(self.flower_port if dyno == "flower" else self.port),
            "DYNO": f"{dyno}.1",
            "HOME": str(self.home),
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.defpath]),  # noqa: PTH120  (not a link's target)
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "true",
            "PYTHONHOME": "",
        }

    def start(self, *names: str) -> None:
        """Start these, or the Procfile's all."""
        for name in names or set(PROCFILE) - {"release"}:
            env = self.environment(name)
            KNOWN.know_settings(env)
            self.dynos[name] = Dyno(name, (PROCFILE[name],), env, self.home / f"{name}.log", directory=self.home)
            self.dynos[name].start()

    def release(self) -> int:
        """Run the release phase; return its exit code."""
        self.start("release")
        return self.dynos.pop("release").wait(READY_SECONDS)

    @property
    def client(self) -> Client:
        return Client(self.port, self.key)

    def flower(self, path: str, *, login: bool = True) -> tuple[int, str]:
        """Ask Flower; return (status, body)."""
        credentials = base64.b64encode(f"ops:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"} if login else {}
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{self.flower_port}{path}", headers=headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, ""

    def processes(self, *names: str) -> list[int]:
        """Return every process of these dynos, the youngest first: what sessions run hears before the worker does."""
        return [pid for name in names for pid in reversed(family(self.dynos[name].pid))]

    def tell_all(self) -> list[int]:
        """Send SIGTERM to everything at once; return what it was sent to.

        As Heroku may, once more to those that have something to lose. It would end the others while Python leaves.
        """
        processes = self.processes(*self.dynos)
        for pid in (*processes, *self.processes("web", "worker")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return processes

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask its database."""
        with (
            closing(psycopg2.connect(self.database_url, connect_timeout=3)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query, values)
            return list(cursor.fetchall())


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[[], str]) -> Iterator[Application]:
    """An application that was pushed and released: its database is migrated."""
    home = tmp_path_factory.mktemp("heroku")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "build":
            (home / entry.name).symlink_to(entry)
    valkey = Valkey(tmp_path_factory.mktemp("addons"), fast=True)
    valkey.start()
    database_url = empty_database()
    try:
        with behind_tls(valkey.url, valkey.directory) as redis_url:
            made = Application(home, database_url, redis_url)
            try:
                assert made.release() == 0
                yield made
            finally:
                for dyno in made.dynos.values():
                    dyno.stop()
                for left in leftovers(made):
                    kill(left)
        refuse([leak for log in home.glob("*.log") for leak in KNOWN.in_file(log, log.name)])
        refuse(KNOWN.in_database(database_url))
        refuse(KNOWN.in_home(valkey.directory))
    finally:
        valkey.stop()


def leftovers(application: Application) -> list[Found]:
    """Return living processes of the workers' sessions."""
    return marked([UUID(str(found)) for (found,) in application.rows("SELECT incarnation FROM workers")])


def answers(client: Client) -> bool:
    """Whether the web tier can serve."""
    with suppress(OSError):
        return client.request("GET", "/health/ready", timeout=3).status == 200
    return False


def counted(application: Application, route: str) -> float:
    """Return how many requests to a route all web processes say they have answered."""
    lines = application.client.request("GET", "/metrics").body.decode().splitlines()
    name = f'jelmore_http_requests_total{{method="GET",route="{route}"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_quiet_stream_says_something_more_often_than_the_router_waits(application: Application) -> None:
    settings = load_settings(application.environment("web"))

    assert max(settings.heartbeat_seconds, settings.websocket_ping_seconds) * 2 < IDLE_SECONDS
    assert settings.graceful_timeout_seconds < settings.worker_watchdog_seconds < KILLED_AFTER_SECONDS


def test_where_certificates_are_to_be_checked_nobodys_is_refused(application: Application) -> None:
    settings = load_settings(application.environment("worker") | {"REDIS_SSL_CERT_REQS": "required"})
    broker = open_broker(settings)

    assert broker is not None
    for client in (connect(settings), broker):
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            client.ping()
    with make_app(settings, current=False).connection() as celery, pytest.raises(OperationalError, match="CERTIFICATE"):
        celery.ensure_connection(max_retries=1, timeout=5)


def test_flower_does_not_start_without_a_login(application: Application) -> None:
    env = application.environment("flower") | {"FLOWER_BASIC_AUTH": ""}
    flower = Dyno("open", (PROCFILE["flower"],), env, application.home / "open.log", directory=application.home)
    flower.start()

    assert flower.wait(READY_SECONDS) == CONFIGURATION_FAULTY
    assert flower.said().count("FLOWER_BASIC_AUTH (user:password) must be set in production") == 1


def test_all_of_an_application_leaves_at_once_and_tells_the_truth(application: Application) -> None:
    client = application.client
    application.start()
    eventually(lambda: answers(client), READY_SECONDS, every=0.2)
    eventually(lambda: all(dyno.lines() for dyno in application.dynos.values()), READY_SECONDS, every=0.2)

    finished = client.create("echo hello; exit 3", program="shell")
    end = client.events(finished)[-1].data
    assert (end["status"], end["exit_code"], client.output(finished)) == ("failed", 3, b"hello\n")
    _two_web_processes_count_together(application)
    _flower_reaches_redis_over_tls(application)

    session_id, *others = (client.create(query, program="shell") for query in (RUNNING, *OTHERS))
    with client.follow(session_id) as stream:
        seen = stream.until("output")
        eventually(lambda: all(client.output(each) for each in others))
        assert client.get(session_id)["worker"] == "worker.1"
        told, began = application.tell_all(), time.monotonic()
        rest = stream.raw()
    codes = {name: dyno.wait(KILLED_AFTER_SECONDS) for name, dyno in application.dynos.items()}
    assert time.monotonic() - began < KILLED_AFTER_SECONDS
    assert codes == dict.fromkeys(codes, 0)
    assert [pid for pid in told if is_alive(pid)] == []
    assert leftovers(application) == []
    assert b"event: terminated" in rest or b"retry: " in rest
    ids = [session_id, *others]
    kept = application.rows("SELECT DISTINCT status, reason FROM sessions WHERE id = ANY(%s::uuid[])", ids)
    assert kept == [("terminated", "worker_shutdown")]

    application.start("web")  # the new dyno
    eventually(lambda: answers(client), READY_SECONDS, every=0.2)
    last = client.events(session_id, last_event_id=seen[-1].id)[-1]
    assert (last.event, last.data["reason"], last.data["output_bytes"]) == ("terminated", "worker_shutdown", 5)
    assert all(dyno.lines() for dyno in application.dynos.values())  # JSON, on standard output


def test_honcho_runs_the_same_commands_and_stops_them(application: Application) -> None:
    """As `heroku local` does. Ctrl-C reaches every process, and after five seconds it kills."""
    types = [name for name in PROCFILE if name != "release"] if FULL_LENGTH else ["web", "worker"]
    port = free_port()
    env = application.environment("web") | {"WEB_CONCURRENCY": "1", "WORKER_DRAIN_SECONDS": "3"}
    del env["DYNO"]
    command = ("exec", sys.executable, "-m", "honcho", "start", "-p", str(port), *types)
    honcho = Dyno("honcho", (" ".join(command),), env, application.home / "honcho.log", directory=application.home)
    honcho.start()
    try:
        client = Client(port, application.key)
        eventually(lambda: answers(client), READY_SECONDS, every=0.2)
        assert client.events(client.create("true", program="shell"))[-1].data["status"] == "completed"
        running = family(honcho.pid)
        honcho.signal(signal.SIGINT)
        honcho.wait(20)
    finally:
        honcho.stop()
    assert "SIGKILL" not in honcho.said()
    assert [pid for pid in running if is_alive(pid)] == []
    assert leftovers(application) == []


def _two_web_processes_count_together(application: Application) -> None:
    before = counted(application, "/health/live")
    for _ in range(6):
        application.client.request("GET", "/health/live")
    assert {counted(application, "/health/live") for _ in range(4)} == {before + 6}


def _flower_reaches_redis_over_tls(application: Application) -> None:
    status, queues = application.flower("/api/queues/length")
    assert (status, {queue["name"] for queue in json.loads(queues)["active_queues"]}) >= (200, {"sessions", "control"})
    assert [application.flower(path, login=False)[0] for path in ("/", "/api/workers")] == [401, 401]
    assert [application.flower(path, login=False)[0] for path in ("/metrics", "/healthcheck")] == [200, 200]
