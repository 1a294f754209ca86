"""`jelmore up`: everything Jelmore needs on this machine, in one command.

Servers for which no address is set are started from wheels; then the Procfile's processes, by its very commands. Stopping goes
the other way round: workers first, so that sessions' ends are written and read; the servers last.

If we are killed with -9 the kernel tells every process we started to leave (Linux); what stays all the same is ended by the next
start in the same home, by its pid and start time.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.settings import load_settings
from jelmore.children import Child, Children, parse_procfile, with_programs_on_path
from jelmore.embedded.server import free_port
from jelmore.home import CannotStart, Home
from jelmore.listening import Place, choose_place
from jelmore.processes import end_all
from jelmore.servers import KINDS, Servers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from jelmore.console import Console

PROCFILE: Final = Path(__file__).resolve().parent.parent / "Procfile"
ORDER: Final = ("web", "worker", "beat", "mirror", "webhooks", "flower")
READY_SECONDS: Final = 60.0
MIGRATION_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.1
DRAIN_SECONDS: Final = 4
# Together less than 10 s, which is what somebody waits before the second Ctrl-C.
WORKER_STOP_SECONDS: Final = 5.5
OTHERS_STOP_SECONDS: Final = 2.5
SERVER_STOP_SECONDS: Final = 1.5
STOPPING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Up:
    """One run of `jelmore up`."""

    def __init__(self, environ: Mapping[str, str], console: Console, procfile: str | None = None) -> None:
        self.environ = {name: value for name, value in environ.items() if value or name.startswith("RATE_LIMIT_")}
        self.console = console
        self.home = Home.open(Path(self.environ.get("JELMORE_HOME") or ".jelmore"))
        self.procfile = parse_procfile(_read_procfile() if procfile is None else procfile)
        self.servers = Servers(self.home.path, self.environ, console)
        self.children = Children([], console)
        self.stops = 0
        """How often we were asked to stop: the second time there is no grace."""

    def run(self) -> None:
        """Start, keep running until asked to stop, stop. Raises CannotStart or ServerFailed; then nothing is left running."""
        with self.home.locked():
            for number in STOPPING_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: what is ignored stays so
                    signal.signal(number, self._on_signal)
            self._end_leftovers()
            try:
                self._start()
                while not self._leaving():
                    self._mend()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1

    def _leaving(self) -> bool:
        return self.stops > 0 or self.console.gone

    # Starting.

    def _start(self) -> None:
        place = choose_place(self.environ)
        env = self._environment(place)
        load_settings(env)  # all faults of a configuration, before anything is started
        env |= self.servers.start(self._leaving)
        self._note()
        self._migrate(env)
        if self._leaving():
            return
        self.home.clear_metrics()
        self.children = Children(self._children(env), self.console)
        self.children.start_all()
        self._note()
        self._wait_until_it_answers(place)
        if not self._leaving():
            self.home.note_address(place.url)
            self._greet(place, env)

    def _end_leftovers(self) -> None:
        """End what a killed predecessor left: the servers last, as ever."""
        noted = self.home.noted()
        names = {kind.name for kind in KINDS}
        end_all([left for left in noted if left.name not in names], WORKER_STOP_SECONDS)
        end_all([left for left in noted if left.name in names], SERVER_STOP_SECONDS)

    def _environment(self, place: Place) -> dict[str, str]:
        """Return what the processes get; what is set already stays."""
        defaults = {
            "API_HOST": place.host,
            "API_KEYS": self._api_keys(),
            "SESSION_ROOTS": json.dumps([str(Path.cwd())]),
            "DEFAULT_PROGRAM": "claude" if self.environ.get("ANTHROPIC_API_KEY") else "shell",
            "WORKER_NAME": self._worker_name(),
            "WORKER_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "GRACEFUL_TIMEOUT_SECONDS": "2",
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": str(free_port()),
            "LOG_FORMAT": "pretty" if sys.stdout.isatty() else "json",
            "PYTHONUNBUFFERED": "1",
        }
        fixed = {"PORT": str(place.port), "JELMORE_HOME": str(self.home.path)}
        env = defaults | self.environ | fixed
        prefix = env.get("FLOWER_URL_PREFIX", "").strip("/")
        env.setdefault("FLOWER_URL", f"http://127.0.0.1:{env['FLOWER_PORT']}/{prefix}".rstrip("/"))
        return with_programs_on_path(env)

    def _worker_name(self) -> str:
        """Return a name of this home's own: two homes may share a database, and one name is one worker."""
        return f"local-{hashlib.sha256(str(self.home.path).encode()).hexdigest()[:6]}"

    def _api_keys(self) -> str:
        if "API_KEYS" in self.environ:
            return ""
        key, self._key_is_new = self.home.secret("api_key")
        return json.dumps({key: {"permissions": ["admin"], "name": "local"}})

    def _migrate(self, env: Mapping[str, str]) -> None:
        release = Child("release", self.procfile.get("release", "true"), env, PROCFILE.parent, len(ORDER))
        alone = Children([release], self.console)
        if self._leaving():
            return
        alone.start_all()
        deadline = time.monotonic() + MIGRATION_SECONDS
        while release.running and not self._leaving() and time.monotonic() < deadline:
            time.sleep(0.02)
        finished = not release.running
        alone.stop(["release"], 1, lambda: self.stops > 1)
        if not self._leaving() and not (finished and release.process and release.process.returncode == 0):
            why = "\n".join(release.last_lines) or "it took too long"
            raise CannotStart(f"The database could not be brought up to date:\n{why}")

    def _children(self, env: Mapping[str, str]) -> list[Child]:
        children = []
        for number, name in enumerate(name for name in ORDER if name in self.procfile):
            own = {"PROMETHEUS_MULTIPROC_DIR": str(self.home.metrics)} if name == "web" else {}
            children.append(Child(name, self.procfile[name], {**env, **own}, PROCFILE.parent, number))
        return children

    def _wait_until_it_answers(self, place: Place) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while "web" in self.procfile and not self._leaving() and not place.answers():
            self._mend()
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"{place.url} did not answer within {READY_SECONDS:.0f} seconds; the lines above say why."
                )
            time.sleep(0.05)

    def _greet(self, place: Place, env: Mapping[str, str]) -> None:
        say = self.console.say
        key_file = self.home.path / "api_key"
        say()
        say(f"Jelmore is running at {place.url}   (Flower: {env['FLOWER_URL']})")
        if "API_KEYS" in self.environ:
            key = "$KEY"
            say("API keys: as API_KEYS says")
        elif self._key_is_new:
            key = key_file.read_text().strip()
            say(f"API key: {key}   (shown this once; kept in {key_file})")
        else:
            key = f"$(cat '{key_file}')"
            say(f"API key: in {key_file}")
        if env["DEFAULT_PROGRAM"] == "claude":
            say("Sessions run Claude Code unless they ask for another program.")
        elif "DEFAULT_PROGRAM" not in self.environ:
            say(
                "Sessions run the program `shell` unless they ask for another: ANTHROPIC_API_KEY is not set, as Claude Code needs."
            )
        say("Try:")
        say(
            f'  curl -s {place.url}/api/v1/sessions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\'
        )
        say('    -d \'{"program": "shell", "query": "for i in 1 2 3; do echo line $i; sleep 1; done; exit 7"}\'')
        say()

    # Running and stopping.

    def _mend(self) -> None:
        servers_changed, children_changed = self.servers.mend(), self.children.mend()
        if servers_changed or children_changed:
            self._note()

    def _stop(self) -> None:
        def hurried() -> bool:
            return self.stops > 1

        if self.children.all:
            self.console.say("Stopping: sessions end, then everything else")
        self.children.stop(["worker"], WORKER_STOP_SECONDS, hurried)
        others = [child.name for child in self.children.all if child.name != "worker"]
        self.children.stop(others, OTHERS_STOP_SECONDS, hurried)
        self.servers.stop(SERVER_STOP_SECONDS, hurried)
        self.home.note_running([])
        self.home.note_address(None)

    def _note(self) -> None:
        """Write down what runs, so that the next start can end it if we are killed."""
        children = (child.identity() for child in self.children.all)
        self.home.note_running([*filter(None, children), *self.servers.identities()])


def _read_procfile() -> str:
    try:
        return PROCFILE.read_text()
    except OSError as why:
        raise CannotStart(f"{PROCFILE} cannot be read ({why.strerror}): run Jelmore from its source folder.") from why
