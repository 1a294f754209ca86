"""The Procfile as Heroku runs it: its variables and no others, Redis over TLS with a certificate of its own, SIGTERM to all at once."""

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
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from jelmore.children import parse_procfile
from jelmore.embedded import Valkey
from jelmore.embedded.server import free_port
from jelmore.processes import dies_with_parent
from runner.marks import kill
from tests.checks import eventually, family, is_alive, marked
from tests.client import Client
from tests.leaks import KNOWN, refuse
from tests.member import ROOT, Member
from tests.service import FULL_LENGTH
from tests.tls import behind_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from uuid import UUID

APP: Final = json.loads((ROOT / "app.json").read_text())
PROCFILE: Final = parse_procfile((ROOT / "Procfile").read_text())
READY_SECONDS: Final = 40.0
KILLED_AFTER_SECONDS: Final = 30.0
"""So long after SIGTERM Heroku sends SIGKILL."""
IDLE_SECONDS: Final = 55.0
"""So long Heroku's router waits for a byte."""
DEAF: Final = "trap '' TERM; echo here; while :; do sleep 0.2; done"
RUNNING: Final = "echo here; sleep 300"


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

    def is_ready(self) -> bool:
        assert all(dyno.alive for dyno in self.dynos.values()), "\n".join(d.said()[-2000:] for d in self.dynos.values())
        with suppress(OSError):
            return self.client.request("GET", "/health/ready", timeout=3).status == 200
        return False

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

    def processes(self) -> list[int]:
        """Return every process of every dyno, the youngest first: what sessions run hears before the worker does."""
        return [pid for dyno in self.dynos.values() for pid in reversed(family(dyno.pid))]

    def restart(self) -> tuple[dict[str, int], float, list[int]]:
        """Send SIGTERM to everything as Heroku does; return exit codes, the seconds it took, and what was left."""
        processes, began = self.processes(), time.monotonic()
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        codes = {name: dyno.wait(KILLED_AFTER_SECONDS) for name, dyno in self.dynos.items()}
        took = time.monotonic() - began
        return codes, took, [pid for pid in processes if is_alive(pid)]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory, empty_database: Callable[[], str]) -> Iterator[Application]:
    """An application that was pushed, and released nothing yet."""
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
                yield made
            finally:
                for dyno in made.dynos.values():
                    dyno.stop()
                for left in marked(incarnations(made)):
                    kill(left)
        refuse([leak for log in home.glob("*.log") for leak in KNOWN.in_file(log, log.name)])
    finally:
        valkey.stop()


def incarnations(application: Application) -> list[UUID]:
    """Return the workers that there ever were."""
    return []


def test_an_application_is_released_used_and_restarted(application: Application) -> None:
    assert application.release() == 0
    application.start()
    eventually(application.is_ready, READY_SECONDS, every=0.2)
    client = application.client

    finished = client.create("echo hello; exit 3")
    *_, end = client.events(finished)
    assert (end.data["status"], end.data["exit_code"]) == ("failed", 3)

    session_id = client.create(DEAF if FULL_LENGTH else RUNNING)
    with client.follow(session_id) as stream:
        seen = stream.until("output")
        shown = client.get(session_id)
        assert shown["worker"] == "worker.1"
        print(json.dumps({name: len(family(dyno.pid)) for name, dyno in application.dynos.items()}))
        codes, took, left = application.restart()
        print(codes, took, left)
        rest = list(stream)
        print(rest)
    application.start("web")
    eventually(application.is_ready, READY_SECONDS, every=0.2)
    print(client.get(session_id))
    print(client.events(session_id, last_event_id=seen[-1].id))
    assert 0
