"""A whole installation for tests: real servers, gunicorn, workers and beat, on free ports, with a home in a temporary directory.

Times are a fifth of the real ones, or with JELMORE_TESTS_FULL=1 the real ones: tests ask `Service.seconds` for their limits.
Only its database and its processes' logs are looked at from inside; all else is HTTP.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg2
import redis

from core.settings import load_settings
from jelmore.embedded import Valkey
from jelmore.embedded.server import free_port
from runner.marks import kill
from tests.checks import eventually, marked
from tests.client import Client
from tests.leaks import KNOWN, refuse
from tests.member import Member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.marks import Found

FULL_LENGTH: Final = os.environ.get("JELMORE_TESTS_FULL") == "1"  # noqa: TID251  (the one place of the tests)
"""Whether everything lasts as long as it does in production."""

READY_SECONDS: Final = 30.0

ADMIN, ADA, ADA_READS, ADA_WRITES, BOB = "admin-key", "ada-key", "ada-reads-key", "ada-writes-key", "bob-key"
KEYS: Final = {
    ADMIN: {"permissions": ["admin"], "name": "admin"},
    ADA: {"permissions": ["read", "write"], "name": "ada"},
    ADA_READS: {"permissions": ["read"], "name": "ada-reads", "owner": "ada"},
    ADA_WRITES: {"permissions": ["write"], "name": "ada-writes", "owner": "ada"},
    BOB: {"permissions": ["read", "write"], "name": "bob"},
}

BUSY_SECONDS: Final = 4.0
"""What a machine with two cores and many tests may take longer than a limit says."""

FAST_TIMES: Final = {
    "LEASE_SECONDS": "3",
    "LEASE_RENEWAL_SECONDS": "0.6",
    "LEASE_MARGIN_SECONDS": "1",
    "HOUSEKEEPING_INTERVAL_SECONDS": "1",
    "RESEND_AFTER_SECONDS": "3",
    "TERMINATE_GRACE_SECONDS": "1",
    "WORKER_DRAIN_SECONDS": "4",
    "WORKER_WATCHDOG_SECONDS": "8",
    "SESSION_MONITORING_INTERVAL_SECONDS": "1",
    "GRACEFUL_TIMEOUT_SECONDS": "2",
}
NO_RATE_LIMITS: Final = {
    f"RATE_LIMIT_{rule}": "" for rule in ("GLOBAL", "AUTHENTICATION", "SESSION_CREATION", "STREAMING", "WEBSOCKET")
}

WEB: Final = ("gunicorn", "-k", "gevent", "-c", "gunicorn.conf.py", "--access-logfile", "/dev/null", "app:create_app()")
WORKER: Final = ("tasks.worker",)
BEAT: Final = ("tasks.beat",)
FLOWER: Final = ("celery", "-A", "tasks.celery", "flower", "--address=127.0.0.1")


@dataclass
class Service:
    """The processes of one installation. Nothing is started until `start`; `stop` ends all, whatever happened."""

    home: Path
    valkey: Valkey
    database_url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    workers: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.web = self._member("web", WEB, {})
        self.beat = self._member("beat", BEAT, {})
        self.flower: Member | None = None
        self.admin = self.client(ADMIN)
        self.ada = self.client(ADA)

    def client(self, key: str | None) -> Client:
        return Client(self.port, key)

    def env(self) -> dict[str, str]:
        """The environment of its processes, from nothing."""
        here = os.path.dirname(sys.executable)  # noqa: PTH120  (as it was called, not what a link points to)
        return {
            "PATH": os.pathsep.join([here, os.defpath]),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "API_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "API_KEYS": json.dumps(KEYS),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.valkey.url,
            "JELMORE_HOME": str(self.home),
            "DEFAULT_PROGRAM": "shell",
            "SESSION_ROOTS": json.dumps([str(self.home)]),
            "MAX_CONCURRENT_SESSIONS": "1000",
            "LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({} if FULL_LENGTH else FAST_TIMES),
            **NO_RATE_LIMITS,
            **self.settings,
        }

    def seconds(self, name: str) -> float:
        """Return how long something lasts here, by the name of its variable."""
        return float(getattr(load_settings(self.env()), name.lower()))

    @property
    def takeover_seconds(self) -> float:
        """Return within what time the sessions of a worker that fell silent have ended, with some room for a busy machine."""
        silent = self.seconds("LEASE_SECONDS") + self.seconds("LEASE_MARGIN_SECONDS")
        return silent + 2 * self.seconds("HOUSEKEEPING_INTERVAL_SECONDS") + BUSY_SECONDS

    def _member(self, name: str, command: Sequence[str], more: Mapping[str, str]) -> Member:
        env = self.env() | dict(more)
        KNOWN.know_settings(env)
        return Member(name, command, env, self.home / f"{name}.log")

    # Starting and stopping.

    def worker(self, name: str = "one", *, command: Sequence[str] = WORKER, **settings: str) -> Member:
        """Start a worker of this name, or find it running. `command`: another module that becomes one."""
        if name not in self.workers:
            self.workers[name] = self._member(f"worker-{name}", command, {"WORKER_NAME": name} | settings)
        self.workers[name].start()
        return self.workers[name]

    def start(self, *workers: str) -> None:
        """Start web, beat and these workers, and wait until they are of use."""
        self.web.start()
        self.beat.start()
        for name in workers:
            self.worker(name)
        self.wait_ready()

    def wait_ready(self, *names: str) -> None:
        """Wait until the web tier answers and every worker that runs (or these alone) takes sessions."""
        eventually(self.answers, READY_SECONDS)
        for name, member in self.workers.items():
            if member.alive and name in (names or self.workers):
                eventually(partial(self.is_taking, name, member), READY_SECONDS)

    def answers(self) -> bool:
        """Whether the web tier is up; fails at once if it died."""
        if not self.web.alive:
            raise RuntimeError(f"the web tier ended at its start:\n{self.web.said()[-3000:]}")
        try:
            return self.client(None).request("GET", "/health/ready", timeout=3).status == 200
        except OSError:
            return False

    def is_taking(self, name: str, member: Member) -> bool:
        """Whether this process is a worker that has said hello and consumes."""
        if not member.alive:
            raise RuntimeError(f"worker {name} ended at its start:\n{member.said()[-3000:]}")
        wanted = "SELECT node FROM workers WHERE name = %s AND pid = %s AND lost_at IS NULL"
        nodes = [node for (node,) in self.rows(wanted, name, member.pid)]
        return any(f"{node} ready." in member.said() for node in nodes)

    def dismiss(self, *names: str) -> None:
        """End these workers and forget them; without names all but `one`."""
        gone = [self.workers.pop(name) for name in names or set(self.workers) - {"one"} if name in self.workers]
        _end(gone)

    def start_flower(self) -> int:
        """Start Flower; return its port."""
        port = free_port()
        self.flower = self._member("flower", (*FLOWER, f"--port={port}"), {"FLOWER_UNAUTHENTICATED_API": "true"})
        self.flower.start()
        prefix = self.settings.get("FLOWER_URL_PREFIX", "")
        eventually(lambda: _answers(f"http://127.0.0.1:{port}{prefix}/healthcheck"), READY_SECONDS, every=0.2)
        return port

    def members(self) -> list[Member]:
        """Every process that is or was part of it, workers first."""
        rest = [self.web, self.beat, *([self.flower] if self.flower else [])]
        return [*self.workers.values(), *rest]

    def stop(self) -> None:
        """End everything but the servers."""
        _end(self.members())

    # Looking inside.

    def refuse_leaks(self) -> None:
        """Fail if anything that it wrote holds a secret; to be asked when its processes have ended."""
        leaks = [*KNOWN.in_home(self.home), *KNOWN.in_database(self.database_url)]
        if self.valkey.exit_code() is None:  # what was in one that was killed stands in its files
            self.valkey.resume()
            leaks += KNOWN.in_redis(self.redis())
        refuse(leaks)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask its database."""
        connection = psycopg2.connect(self.database_url, connect_timeout=3)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def incarnations(self, name: str | None = None) -> list[UUID]:
        """Every incarnation its workers (or the one of that name) ever had, oldest first."""
        rows = self.rows("SELECT incarnation FROM workers WHERE %s IS NULL OR name = %s ORDER BY 1", name, name)
        return [UUID(str(incarnation)) for (incarnation,) in rows]

    def leftovers(self, name: str | None = None) -> list[Found]:
        """Living processes of its sessions, or of those of one worker."""
        return marked(self.incarnations(name))

    def redis(self) -> redis.Redis:
        """A client for its Valkey."""
        return redis.Redis.from_url(self.valkey.url, protocol=2, socket_timeout=3)

    def keeper_of(self, worker: Member) -> int:
        """Return the pid of a worker's keeper."""
        for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
            if b"keeper.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise AssertionError("no keeper")


def _end(members: Sequence[Member]) -> None:
    """Ask all of them to leave, then wait for each."""
    for member in members:
        if member.alive:
            os.killpg(member.pid, signal.SIGCONT)
            member.signal(signal.SIGTERM)
    for member in members:
        member.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def installed(home: Path, database_url: str, **settings: str) -> Iterator[Service]:
    """A service with a Valkey of its own, not started yet; all of it is gone afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    valkey = Valkey(home / "servers", fast=True)
    valkey.start()
    service = Service(home, valkey, database_url, settings)
    try:
        yield service
    finally:
        service.stop()
        for left in service.leftovers():
            kill(left)
        try:
            service.refuse_leaks()
        finally:
            valkey.stop()
