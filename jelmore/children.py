"""The processes that `jelmore up` keeps running: started as the Procfile says, their lines prefixed, restarted when they crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jelmore.processes import Identity, dies_with_parent, signal_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import IO

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A process that ran so long crashed by accident: the next pause is the first one again."""
COLOURS: Final = (36, 33, 32, 35, 34, 96, 93)
POLL_SECONDS: Final = 0.02


def parse_procfile(text: str) -> dict[str, str]:
    """Return the commands of a Procfile by name."""
    lines = (
        line.split("#", 1)[0].strip() if line.lstrip().startswith("#") else line.strip() for line in text.splitlines()
    )
    return {name.strip(): command.strip() for name, _, command in (line.partition(":") for line in lines if line)}


def pause_after(crashes: int) -> float:
    """Return how long to wait before the next start, after so many crashes in a row."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2 ** max(0, min(crashes, 10) - 1)))


class Console:
    """Where all lines end up, one at a time."""

    def __init__(self, out: IO[str] | None = None, *, colour: bool | None = None) -> None:
        self._out = out or sys.stdout
        self._colour = self._out.isatty() if colour is None else colour
        self._lock = threading.Lock()

    def say(self, line: str = "") -> None:
        """Write a line of our own."""
        with self._lock:
            print(line, file=self._out, flush=True)

    def relay(self, name: str, number: int, line: str) -> None:
        """Write a line of a child's."""
        prefix = f"{name:<7}|"
        if self._colour:
            prefix = f"\x1b[{COLOURS[number % len(COLOURS)]}m{prefix}\x1b[0m"
        self.say(f"{prefix} {line}")


@dataclass
class Child:
    """One process of the Procfile."""

    name: str
    command: str
    env: Mapping[str, str]
    directory: Path
    number: int = 0
    process: subprocess.Popen[bytes] | None = None
    crashes: int = 0
    started: float = 0.0
    start_at: float = 0.0
    """When it may be started (again), monotonic seconds."""
    last_lines: list[str] = field(default_factory=list)

    def start(self, console: Console) -> None:
        """Start it in a process session of its own: a Ctrl-C at the terminal is ours to pass on. Main thread only."""
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {self.command}"],
            env=dict(self.env),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  (main thread only)
        )
        self.started = time.monotonic()
        threading.Thread(target=self._read, args=(self.process.stdout, console), daemon=True).start()

    def _read(self, pipe: IO[bytes], console: Console) -> None:
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\n")
            self.last_lines = [*self.last_lines[-19:], line]
            console.relay(self.name, self.number, line)
        pipe.close()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def identity(self) -> Identity | None:
        """Return what a later start needs to recognise it."""
        return Identity.of(self.name, self.process.pid, signal.SIGTERM) if self.running and self.process else None

    def signal(self, number: int) -> None:
        """Send a signal to its group."""
        if self.running and self.process:
            signal_group(self.process.pid, number)


class Children:
    """All of them."""

    def __init__(self, children: Iterable[Child], console: Console) -> None:
        self.all = list(children)
        self._console = console

    def start_all(self) -> None:
        """Start every process."""
        for child in self.all:
            child.start(self._console)

    def mend(self) -> bool:
        """Start again what crashed and has waited long enough; return whether anything changed. Never blocks."""
        changed = False
        now = time.monotonic()
        for child in self.all:
            if child.running:
                continue
            if child.start_at <= child.started:  # it has just died
                changed = True
                self._note_crash(child, now)
            elif now >= child.start_at:
                changed = True
                child.start(self._console)
        return changed

    def _note_crash(self, child: Child, now: float) -> None:
        child.crashes = 1 if now - child.started > STEADY_SECONDS else child.crashes + 1
        pause = pause_after(child.crashes)
        child.start_at = now + pause
        code = child.process.returncode if child.process else None
        self._console.say(f"{child.name} ended (exit code {code}); it is started again in {pause:g} s")

    def stop(self, names: Iterable[str], seconds: float, hurried: Callable[[], bool]) -> None:
        """Ask these processes to leave; kill what is left after so many seconds, or at once if we are hurried."""
        wanted = set(names)
        leaving = [child for child in self.all if child.name in wanted]
        for child in leaving:
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(child.running for child in leaving) and time.monotonic() < deadline and not hurried():
            time.sleep(POLL_SECONDS)
        for child in leaving:
            child.signal(signal.SIGKILL)
        for child in leaving:
            if child.process is not None:
                child.process.wait()


def with_programs_on_path(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a Procfile's commands are those installed beside this Python."""
    here = os.path.dirname(sys.executable)  # noqa: PTH120  (as it was called, not what a link points to)
    return {**env, "PATH": os.pathsep.join([here, env.get("PATH", os.defpath)])}
