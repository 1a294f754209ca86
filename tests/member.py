"""One process of an installation under test: started, signalled, killed, stopped; its log and its memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jelmore.processes import dies_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
STOP_SECONDS: Final = 10.0


@dataclass
class Member:
    """One process of the service, a process group of its own. Its output goes to a file that grows over restarts."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, if it does not run. From the main thread: it dies with the thread that started it."""
        if self.alive:
            return
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                env=dict(self.env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),  # noqa: PLW1509  (main thread only)
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Signal the process alone, as `kill` does."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9 of the process and of what stands in its group: gunicorn's workers too, but no keeper."""
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(STOP_SECONDS)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Ask it to leave; kill it if it does not."""
        if self.alive:
            os.killpg(self.pid, signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            if self.process is not None:
                self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self) -> str:
        """Everything it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Return its log's JSON lines."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{") and line.endswith("}")]

    def memory_kib(self, what: str = "VmHWM") -> int:
        """Return a line of /proc/<pid>/status: VmHWM is the most it ever had, VmRSS what it has."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {what}")
