"""A whole installation whose every part can be killed and stopped, and the chance that does it.

All of it runs in the main thread: processes die with the thread that started them.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from core.settings import load_settings
from jelmore.embedded import Nats, Postgres, Valkey
from jelmore.embedded.server import EmbeddedServer, free_port
from migrations.__main__ import upgrade
from tests.member import Member
from tests.service import WEB, Service
from tests.soak.lives import COMMAND, RESUMABLE
from tests.soak.stories import Fault

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator


MIRROR: Final = ("streams.mirror",)
WORKERS: Final = ("one", "two")
SHORT: Final = (0.2, 1.5)
LONG: Final = (3.0, 7.0)
"""Seconds of a fault: most are short, one in five is longer than a lease."""
AGAIN_SECONDS: Final = 0.5
"""A process that left by itself is started again after it, as a supervisor would."""
TICK_SECONDS: Final = 0.05


@dataclass
class Plant:
    """The parts of an installation by name, what is broken now, and what was."""

    service: Service
    postgres: Postgres
    nats: Nats
    members: dict[str, Member]
    ports: tuple[int, ...]
    noted: list[Fault] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Processes that ended though nobody killed them."""

    def server(self, name: str) -> EmbeddedServer | None:
        return {"valkey": self.service.valkey, "postgres": self.postgres, "nats": self.nats}.get(name)

    # What can be done to a part.

    def kill(self, name: str) -> None:
        """kill -9 of a process and its group, or of a server."""
        (self.server(name) or self.members[name]).kill()

    def start(self, name: str) -> None:
        """Start what does not run; of a server, wait until it answers."""
        if (server := self.server(name)) is not None:
            server.start()
        else:
            self.members[name].start()

    def pause(self, name: str) -> None:
        """Stop every process of a part where it stands, the servers' children too."""
        for pid in self._processes(name):
            _signal(pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        for pid in self._processes(name):
            _signal(pid, signal.SIGCONT)

    def _processes(self, name: str) -> list[int]:
        """Return a part's processes; a worker's sessions and its keeper go on."""
        process = (self.server(name) or self.members[name]).process
        if process is None or process.poll() is not None:
            return []
        return [process.pid, *([] if name in WORKERS else children(process.pid))]

    def kill_child(self, name: str) -> None:
        """kill -9 of one web process of a server whose master lives, or of a worker's keeper."""
        member = self.members[name]
        if member.alive:
            for pid in children(member.pid)[:1]:
                _signal(pid, signal.SIGKILL)

    def kill_with_keeper(self, name: str) -> None:
        """kill -9 of a worker and its keeper at once: nobody is left to end their sessions' processes but the next worker."""
        member = self.members[name]
        if member.alive:
            member.signal(signal.SIGSTOP)
            self.kill_child(name)
            member.kill()

    def leave(self, name: str) -> None:
        """SIGTERM: a deployment."""
        self.members[name].signal(signal.SIGTERM)

    def flush(self, name: str) -> None:
        with suppress(Exception):  # it may be away
            self.service.redis().flushall()

    def cut(self, name: str) -> None:
        """Close every connection of Valkey's."""
        with suppress(Exception):  # as above
            client = self.service.redis()
            client.client_kill_filter(_type="pubsub")
            client.client_kill_filter(_type="normal", skipme=True)

    def kill_and_empty(self, name: str) -> None:
        """A Valkey that comes back without its data."""
        self.service.valkey.kill()
        shutil.rmtree(self.service.valkey.directory / "appendonlydir", ignore_errors=True)

    def is_alive(self, name: str) -> bool:
        process = (self.server(name) or self.members[name]).process
        return process is not None and process.poll() is None

    def names(self) -> list[str]:
        return [*self.members, "valkey", "postgres", "nats"]

    def heal(self) -> None:
        """Resume and start everything, and wait until it is of use."""
        for name in self.names():
            self.resume(name)
        for name in ("postgres", "valkey", "nats"):
            self.start(name)
        for name in self.members:
            self.start(name)
        self.service.wait_ready()


Act = tuple["Callable[[Plant, str], None]", "Callable[[Plant, str], None]"]
KILL: Final[Act] = (Plant.kill, Plant.start)
STOP: Final[Act] = (Plant.pause, Plant.resume)


def _nothing(plant: Plant, name: str) -> None:
    """What needs no mending."""


FAULTS: Final[dict[str, tuple[Act, tuple[str, ...], int]]] = {
    # what: (how it is made and mended, to whom, how often in proportion)
    "kill": (KILL, ("web-1", "web-2", "beat", "mirror", "valkey", "postgres", "nats", *WORKERS), 6),
    "stop": (STOP, ("web-1", "web-2", "beat", "mirror", "valkey", "postgres", "nats", *WORKERS), 6),
    "kill a child": ((Plant.kill_child, _nothing), ("web-1", "web-2", *WORKERS), 2),
    "kill with keeper": ((Plant.kill_with_keeper, Plant.start), WORKERS, 1),
    "leave": ((Plant.leave, Plant.start), WORKERS, 1),
    "flush": ((Plant.flush, _nothing), ("valkey",), 2),
    "cut": ((Plant.cut, _nothing), ("valkey",), 2),
    "kill and empty": ((Plant.kill_and_empty, Plant.start), ("valkey",), 1),
}


class Chance:
    """Breaks something every so often, and mends it a while later. One seed makes the same choices."""

    def __init__(self, plant: Plant, choice: random.Random, tell: Callable[[str], None]) -> None:
        self._plant = plant
        self._choice = choice
        self._tell = tell
        self._due: list[tuple[float, int, str, str, float, Callable[[Plant, str], None]]] = []
        self._numbers = itertools.count()
        self._broken: set[str] = set()

    def run(self, seconds: float, every: float) -> None:
        """Go on for so long; afterwards mend all."""
        began = time.monotonic()
        next_fault = began + every
        while (now := time.monotonic()) < began + seconds:
            while self._due and self._due[0][0] <= now:
                self._mend()
            self._start_what_left()
            if now >= next_fault:
                next_fault = now + every
                self._break(now - began)
            time.sleep(TICK_SECONDS)
        while self._due:
            self._mend()
        self._plant.heal()

    def _break(self, at: float) -> None:
        whats = list(FAULTS)
        what = self._choice.choices(whats, [FAULTS[name][2] for name in whats])[0]
        (make, mend), whom, _ = FAULTS[what]
        name = self._choice.choice(whom)
        seconds = self._choice.uniform(*(LONG if what == "leave" or self._choice.random() < 0.2 else SHORT))
        if name in self._broken or not self._plant.is_alive(name):
            return
        self._tell(f"{at:6.1f} s  {what} {name}" + ("" if mend is _nothing else f" for {seconds:.1f} s"))
        began = time.time()
        make(self._plant, name)
        if mend is _nothing:
            self._note(what, name, began)
            return
        self._broken.add(name)
        entry = (time.monotonic() + seconds, next(self._numbers), what, name, began, mend)
        heapq.heappush(self._due, entry)

    def _mend(self) -> None:
        _, _, what, name, began, mend = heapq.heappop(self._due)
        if what == "leave":
            self._plant.members[name].kill()  # if it is still about it: a platform waits no longer
        mend(self._plant, name)
        self._broken.discard(name)
        self._note(what, name, began)

    def _note(self, what: str, name: str, began: float) -> None:
        self._plant.noted.append(Fault(what, name, began, time.time()))

    def _start_what_left(self) -> None:
        for name, member in self._plant.members.items():
            if name not in self._broken and not member.alive:
                code = member.process.returncode if member.process else None
                self._plant.left.append(f"{name} ({code})")
                self._tell(f"          {name} left by itself with {code}")
                self._broken.add(name)
                entry = (time.monotonic() + AGAIN_SECONDS, next(self._numbers), "left", name, time.time(), Plant.start)
                heapq.heappush(self._due, entry)


@contextmanager
def planted(home: Path, sessions: int) -> Iterator[Plant]:
    """An installation that runs: three servers, two web processes, two workers, beat, mirror. All of it is gone afterwards."""
    servers: list[Any] = [Valkey(home / "servers", fast=True), Postgres(home / "servers", fast=True)]
    nats = Nats(home / "servers", fast=True)
    valkey, postgres = servers
    plant: Plant | None = None
    try:
        for server in (valkey, postgres, nats):
            server.launch()
        for server in (valkey, postgres, nats):
            server.wait_ready()
        upgrade(load_settings({"DATABASE_URL": postgres.url}).database_url)
        slots = max(2, sessions * 2 // 3)  # one worker alone does not hold them all: some wait
        settings = {
            "WORKER_SLOTS": str(slots),
            "NATS_URL": nats.url,
            "DEFAULT_PROGRAM": "shell",
            "JELMORE_PROGRAMS": json.dumps({RESUMABLE: {"argv": COMMAND, "query": "none", "resumable": True}}),
        }
        service = Service(home, valkey, postgres.url, settings)
        plant = _started(service, postgres, nats)
        yield plant
    finally:
        if plant is not None:
            for name in plant.names():
                plant.resume(name)
            for member in plant.members.values():
                member.signal(signal.SIGTERM)
            for member in plant.members.values():
                member.stop()
        for server in (nats, valkey, postgres):
            server.stop()


def _started(service: Service, postgres: Postgres, nats: Nats) -> Plant:
    second = free_port()
    for name in WORKERS:
        service.worker(name)
    members = {
        "web-1": service.web,
        "web-2": Member("web-2", WEB, service.env() | {"PORT": str(second)}, service.home / "web-2.log"),
        "beat": service.beat,
        "mirror": Member("mirror", MIRROR, service.env(), service.home / "mirror.log"),
        **service.workers,
    }
    for member in members.values():
        member.start()
    service.wait_ready()
    return Plant(service, postgres, nats, members, (service.port, second))


def children(pid: int) -> list[int]:
    """Return the children of a process, over all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
