"""Processes that a run starts: each in a group of its own, its output in a file, all stopped whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jelmore.embedded import Postgres, Valkey
from jelmore.processes import dies_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0


class NotReady(Exception):
    """A sentence that says which process does not answer, and the last lines it printed."""


class Running:
    """Starts processes and stops them all."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home = home
        self._root = root
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to a file in the home."""
        with self._log(name).open("wb") as log:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        self._processes.append(process)
        return process

    def wait_for(self, name: str, port: int, path: str = "/health/live") -> None:
        """Wait until a web process answers. Raises NotReady."""
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(port, path):
            if time.monotonic() > deadline:
                last = self._log(name).read_text(errors="replace").splitlines()[-15:]
                raise NotReady(f"{name} did not answer within {READY_SECONDS:.0f} seconds:\n" + "\n".join(last))
            time.sleep(0.05)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End one at once: it has done what it was started for."""
        self._processes.remove(process)
        _signal(process, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Ask all to leave, the last started first; kill what stays."""
        for process in reversed(self._processes):
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in reversed(self._processes):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()

    def _log(self, name: str) -> Path:
        return self._home / f"{name}.log"


@dataclass(frozen=True)
class Servers:
    """Valkey and PostgreSQL: where they are, and their processes by name."""

    addresses: dict[str, str]
    roots: dict[str, list[int]]


@contextmanager
def servers(home: Path) -> Iterator[Servers]:
    """Start Valkey and PostgreSQL, durable as in production."""
    started = [Valkey(home), Postgres(home)]
    try:
        for server in started:
            server.launch()
        for server in started:
            server.wait_ready()
        yield Servers(
            {server.setting: server.url for server in started},
            {server.name: [server.process.pid] for server in started if server.process},
        )
    finally:
        for server in started:
            server.stop()


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
            return True
    except OSError:
        return False


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # the whole group is gone: nothing to end
        os.killpg(process.pid, number)
