"""`jelmore up`: everything Jelmore needs on this machine, in one command.

Servers for which no address is set are started from wheels; then the Procfile's processes, by its very commands. Stopping goes
the other way round: workers first, so that sessions' ends are written and read; the servers last.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.settings import load_settings
from jelmore.children import Child, Children, Console, parse_procfile, with_programs_on_path
from jelmore.embedded import EmbeddedServer, Nats, Postgres, Valkey
from jelmore.embedded.server import free_port
from jelmore.home import CannotStart, Home
from jelmore.processes import end_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

SERVERS: Final[tuple[type[EmbeddedServer], ...]] = (Valkey, Postgres, Nats)
PROCFILE: Final = Path(__file__).resolve().parent.parent / "Procfile"
ORDER: Final = ("web", "worker", "beat", "mirror", "flower")
USUAL_PORT: Final = 8000
READY_SECONDS: Final = 60.0
HOPELESS_CRASHES: Final = 3
DRAIN_SECONDS: Final = 4
WORKER_STOP_SECONDS: Final = 6.0
OTHERS_STOP_SECONDS: Final = 2.5
SERVER_STOP_SECONDS: Final = 1.5


class Up:
    """One run of `jelmore up`."""

    def __init__(self, environ: Mapping[str, str], console: Console, procfile: str | None = None) -> None:
        self.environ = dict(environ)
        self.console = console
        self.home = Home.open(Path(self.environ.get("JELMORE_HOME") or ".jelmore"))
        self.procfile = parse_procfile(procfile if procfile is not None else PROCFILE.read_text())
        self.servers: list[EmbeddedServer] = []
        self.children = Children([], console)
        self.stops = 0
        """How often we were asked to stop: the second time there is no grace."""

    def run(self) -> None:
        """Start, keep running until asked to stop, stop. Raises CannotStart or ServerFailed; then nothing is left running."""
        with self.home.locked():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)
            end_all(self.home.noted(), grace_seconds=WORKER_STOP_SECONDS)
            try:
                self._start()
                self._keep()
            finally:
                self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1

    # Starting.

    def _start(self) -> None:
        host, port = self._address()
        env = self._environment(host, port)
        load_settings(env)  # all faults of a configuration, before anything is started
        self._start_servers(env)
        self._note()
        if self.stops:
            return
        self._migrate(env)
        self.home.clear_metrics()
        self.children = Children(self._children(env), self.console)
        self.children.start_all()
        self._note()
        self._wait_until_it_answers(host, port)
        if not self.stops:
            self._greet(host, port, env)

    def _address(self) -> tuple[str, int]:
        """Decide where to listen: this machine only, unless told otherwise; the usual port, or a free one."""
        host = self.environ.get("API_HOST") or ("0.0.0.0" if self.environ.get("PORT") else "127.0.0.1")  # noqa: S104
        told = self.environ.get("PORT") or self.environ.get("API_PORT")
        if told is None:
            return host, USUAL_PORT if _is_free(host, USUAL_PORT) else free_port(host)
        if not told.isdigit() or not 0 < int(told) < 65536:
            raise CannotStart(f"The port {told} is not a number between 1 and 65535.")
        if not _is_free(host, int(told)):
            raise CannotStart(
                f"The port {told} is in use: stop what listens there, or choose another with --port or PORT."
            )
        return host, int(told)

    def _environment(self, host: str, port: int) -> dict[str, str]:
        """Return what the processes get; what is set already stays."""
        defaults = {
            "API_HOST": host,
            "API_KEYS": self._api_keys(),
            "SESSION_ROOTS": json.dumps([str(Path.cwd())]),
            "DEFAULT_PROGRAM": "shell",
            "WORKER_NAME": "local",
            "WORKER_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "GRACEFUL_TIMEOUT_SECONDS": "2",
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": "" if self.environ.get("FLOWER_PORT") else str(free_port()),
            "LOG_FORMAT": "pretty" if sys.stdout.isatty() else "json",
        }
        given = {name: value for name, value in self.environ.items() if value != ""}
        fixed = {"PORT": str(port), "JELMORE_HOME": str(self.home.path)}
        return with_programs_on_path(defaults | given | fixed)

    def _api_keys(self) -> str:
        key, self._key_is_new = self.home.secret("api_key")
        return json.dumps({key: {"permissions": ["admin"], "name": "local"}})

    def _start_servers(self, env: dict[str, str]) -> None:
        self.servers = [server(self.home.path) for server in SERVERS if not env.get(server.setting)]
        for server in self.servers:
            self.console.say(f"Starting {server.title}")
            server.launch()
        for server in self.servers:
            server.wait_ready(cancelled=lambda: self.stops > 0)
            env[server.setting] = server.url

    def _migrate(self, env: Mapping[str, str]) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {self.procfile['release']}"],
            env=dict(env),
            cwd=PROCFILE.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
            timeout=READY_SECONDS,
        )
        if done.returncode != 0 and not self.stops:
            raise CannotStart(f"The database could not be brought up to date:\n{done.stdout.strip()}")

    def _children(self, env: Mapping[str, str]) -> list[Child]:
        children = []
        for number, name in enumerate(name for name in ORDER if name in self.procfile):
            own = {"PROMETHEUS_MULTIPROC_DIR": str(self.home.metrics)} if name == "web" else {}
            children.append(Child(name, self.procfile[name], {**env, **own}, PROCFILE.parent, number))
        return children

    def _wait_until_it_answers(self, host: str, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.stops and not _answers(host, port):
            self.children.mend()
            hopeless = [
                child for child in self.children.all if child.name == "web" and child.crashes >= HOPELESS_CRASHES
            ]
            if hopeless or time.monotonic() > deadline:
                raise CannotStart("The web process does not come up; its lines above say why.")
            time.sleep(0.05)

    def _greet(self, host: str, port: int, env: Mapping[str, str]) -> None:
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        say = self.console.say
        say()
        say(f"Jelmore is running at {url}   (Flower: http://127.0.0.1:{env['FLOWER_PORT']})")
        key = "$KEY"
        if "API_KEYS" in self.environ:
            say("API keys: as API_KEYS says")
        elif self._key_is_new:
            key = next(iter(json.loads(env["API_KEYS"])))
            say(f"API key: {key}   (shown this once; kept in {self.home.path / 'api_key'})")
        else:
            say(f"API key: in {self.home.path / 'api_key'}")
        if "DEFAULT_PROGRAM" not in self.environ:
            say("Sessions run the program `shell`: no Claude Code is configured.")
        say("Try:")
        say(f"  curl -s {url}/api/v1/sessions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\")
        say('    -d \'{"query": "for i in 1 2 3; do echo line $i; sleep 1; done; exit 7"}\'')
        say()

    # Running and stopping.

    def _keep(self) -> None:
        while not self.stops:
            if self.children.mend():
                self._note()
            time.sleep(0.1)

    def _stop(self) -> None:
        def hurried() -> bool:
            return self.stops > 1

        if self.children.all:
            self.console.say("Stopping: sessions end, then everything else")
        self.children.stop(["worker"], WORKER_STOP_SECONDS, hurried)
        others = [child.name for child in self.children.all if child.name != "worker"]
        self.children.stop(others, OTHERS_STOP_SECONDS, hurried)
        for server in self.servers:
            server.ask_to_stop()
        for server in self.servers:
            server.stop(0 if hurried() else SERVER_STOP_SECONDS)
        self.home.note_running([])

    def _note(self) -> None:
        """Write down what runs, so that the next start can end it if we are killed."""
        identities = [server.identity() for server in self.servers]
        identities = [*(child.identity() for child in self.children.all), *identities]
        self.home.note_running(identity for identity in identities if identity)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _answers(host: str, port: int) -> bool:
    target = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
    try:
        with urllib.request.urlopen(f"http://{target}:{port}/health/live", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def exit_quietly(code: int) -> None:
    """Leave without waiting for the threads that read the children's lines."""
    sys.stdout.flush()
    os._exit(code)
