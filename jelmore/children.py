"""The processes that `jelmore up` keeps running: started as the Procfile says, their lines relayed, restarted when they crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jelmore.home import CannotStart
from jelmore.processes import Identity, dies_with_parent, signal_group
from jelmore.restarts import Restarts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import IO

    from jelmore.console import Console

POLL_SECONDS: Final = 0.02
LAST_LINES: Final = 10
LINE_BYTES: Final = 65536
"""A longer line is relayed in pieces: a process that never ends its line must not fill our memory."""


def parse_procfile(text: str) -> dict[str, str]:
    """Return the commands of a Procfile by name."""
    lines = (line.strip() for line in text.splitlines())
    parts = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name.strip(): command.strip() for name, _, command in parts}


@dataclass
class Child:
    """One process of the Procfile."""

    name: str
    command: str
    env: Mapping[str, str]
    directory: Path
    number: int = 0
    process: subprocess.Popen[bytes] | None = None
    restarts: Restarts = field(default_factory=Restarts)
    reader: threading.Thread | None = None
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))

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
        self.restarts.note_start(time.monotonic())
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout, console), daemon=True)
        self.reader.start()

    def _read(self, pipe: IO[bytes], console: Console) -> None:
        while raw := pipe.readline(LINE_BYTES):
            line = raw.decode(errors="replace").rstrip("\n")
            self.last_lines.append(line)
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

    def bury(self) -> None:
        """Wait for the killed process, end what it left in its group, and relay its last lines."""
        if self.process is None:
            return
        self.process.wait()
        signal_group(self.process.pid, signal.SIGKILL)
        if self.reader is not None:
            self.reader.join(0.2)  # not for ever: something outside the group may hold the pipe


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
        """Start again what crashed and has waited long enough; return whether anything changed. Never blocks.

        Raises CannotStart if a process ended again and again without ever having come up.
        """
        changes = [self._mend(child, time.monotonic()) for child in self.all]
        return any(changes)

    def _mend(self, child: Child, now: float) -> bool:
        if child.running:
            child.restarts.note_running(now)
            return False
        if child.restarts.is_due(now):
            child.start(self._console)
            return True
        if not child.restarts.ended:
            self._note_crash(child, now)
            return True
        return False

    def _note_crash(self, child: Child, now: float) -> None:
        pause = child.restarts.note_end(now)
        code = child.process.returncode if child.process else None
        if child.restarts.hopeless:
            raise CannotStart(
                f"The {child.name} process does not come up: it ended {child.restarts.crashes} times in a row, the last "
                f"time with exit code {code}. Its lines above say why."
            )
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
            child.bury()


def with_programs_on_path(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a Procfile's commands are those installed beside this Python."""
    here = os.path.dirname(sys.executable)  # noqa: PTH120  (as it was called, not what a link points to)
    return {**env, "PATH": os.pathsep.join([here, env.get("PATH", os.defpath)])}
