"""The keeper tells the truth about exits and leaves nothing behind, however its worker ends. Real processes."""

from __future__ import annotations

import itertools
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import marks

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
SHELL = "/bin/sh"
THE_C_LIBRARYS = 0b11 << 31  # signals 32 and 33, which no program can set
DAEMONS = (
    "(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); (env -i setsid sleep 300 &); "
    "trap '' TERM; while :; do sleep 1; done"
)


class Driver:
    """A worker's stand-in in a process of its own."""

    def __init__(self) -> None:
        self.incarnation = random.getrandbits(24)
        command = [sys.executable, "-m", "tests.integration.runner.keeper_driver", str(self.incarnation)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        self._heard: queue.Queue[list[Any]] = queue.Queue()
        self._unread: list[list[Any]] = []
        self.numbers = itertools.count(1)
        """Of sessions: each is given once."""
        threading.Thread(target=self._listen, daemon=True).start()
        self.keeper = self.hear("keeper")[1]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put(json.loads(line))

    def order(self, *words: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)

    def hear(self, name: str, number: int | None = None, seconds: float = 10) -> list[Any]:
        """Return the next report of a kind; others stay for whoever asks for them: an exit may be told before its start."""
        deadline = time.monotonic() + seconds
        while True:
            for heard in self._unread:
                if heard[0] == name and (number is None or heard[1] == number):
                    self._unread.remove(heard)
                    return heard
            self._unread.append(self._heard.get(timeout=max(0.01, deadline - time.monotonic())))

    def spawn(self, number: int, *argv: str, limit: int = 0) -> int:
        self.order("spawn", number, limit, argv)
        pid: int = self.hear("spawned", number)[2]
        return pid

    def processes(self, number: int | None = None) -> list[marks.Found]:
        """Return the processes of this driver's sessions, or of one of them, that live."""

        def wanted(found: marks.Found) -> bool:
            return found.incarnation == self.incarnation and (number is None or found.tag & 0xFFFF == number)

        return marks.find(wanted)

    def wait_for(self, count: int, number: int | None = None, seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while len(self.processes(number)) != count:
            assert time.monotonic() < deadline, self.processes(number)
            threading.Event().wait(0.02)

    @property
    def is_as_new(self) -> bool:
        """Whether another test can use it: it and its keeper live, and nothing else."""
        return self.process.poll() is None and marks.started(self.keeper) is not None and not self.processes()

    def stop(self) -> None:
        for pid in (self.process.pid, self.keeper):
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(5)
        marks.sweep(lambda found: found.incarnation == self.incarnation)


@pytest.fixture
def driver() -> Iterator[Driver]:
    started = Driver()
    yield started
    started.stop()


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_an_exit_code_is_told_as_it_was(driver: Driver, code: int) -> None:
    driver.spawn(1, SHELL, "-c", f"exit {code}")

    assert driver.hear("exited") == ["exited", 1, code, None]


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_a_signal_is_told_by_its_name(driver: Driver, name: str) -> None:
    driver.spawn(1, SHELL, "-c", f"kill -{name} $$")

    assert driver.hear("exited") == ["exited", 1, None, name]


@pytest.mark.parametrize(("path", "why"), [("/nonexistent", "No such file"), ("/etc/passwd", "Permission denied")])
def test_what_cannot_be_executed_is_told_with_its_reason(driver: Driver, path: str, why: str) -> None:
    driver.order("spawn", 1, 0, [path])

    assert why in driver.hear("failed")[2]


def test_a_session_ends_with_its_daemons_and_no_other_does(driver: Driver) -> None:
    for number in (1, 2):
        driver.spawn(number, SHELL, "-c", DAEMONS)
        driver.wait_for(5, number)
    driver.order("signal", 1, signal.SIGTERM)
    driver.order("end", 1)

    driver.hear("empty", 1)
    assert driver.processes(1) == []
    assert len(driver.processes(2)) == 5


def test_what_a_main_process_left_behind_is_found_after_its_exit(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", "(env -i setsid sleep 300 &); (setsid sleep 300 &); exit 3")

    assert driver.hear("exited") == ["exited", 1, 3, None]
    driver.wait_for(2)
    driver.order("end", 1)
    driver.hear("empty", 1)
    assert driver.processes() == []


def test_nothing_survives_the_worker(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", DAEMONS)
    driver.wait_for(5)
    driver.process.kill()

    driver.wait_for(0, seconds=2)


def test_nothing_survives_the_keeper(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", DAEMONS)
    driver.wait_for(5)
    os.kill(driver.keeper, signal.SIGKILL)

    driver.hear("lost")
    assert driver.processes() == []


def test_a_worker_that_stands_still_loses_its_processes_at_the_lease(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", DAEMONS)
    driver.wait_for(5)
    driver.order("lease", 0.5)
    driver.order("lease", 0.6)
    driver.spawn(2, "/bin/true")  # an answer: the orders before it were carried out
    os.kill(driver.process.pid, signal.SIGSTOP)

    driver.wait_for(0, seconds=3)


def test_a_lease_that_is_renewed_kills_nothing(driver: Driver) -> None:
    driver.spawn(1, "/bin/sleep", "300")
    driver.order("lease", 0.3)
    driver.order("lease", 60)
    driver.spawn(2, "/bin/sleep", "0.6")

    driver.hear("exited", 2)
    assert len(driver.processes(1)) == 1


def test_closing_ends_everything_and_the_keeper(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", DAEMONS)
    driver.wait_for(5)
    driver.order("close")

    driver.hear("closed")
    assert driver.processes() == []
    assert marks.started(driver.keeper) is None


def test_too_many_processes_are_told(driver: Driver) -> None:
    driver.spawn(1, SHELL, "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 300 & done; wait", limit=5)

    assert driver.hear("many")[1] == 1


def test_a_process_gets_three_descriptors_and_signals_as_usual(driver: Driver, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    script = f"{{ ls /proc/self/fd | wc -l; grep -E 'SigIgn|SigBlk' /proc/self/status; ulimit -n; }} > {facts}"
    driver.spawn(1, SHELL, "-c", script)
    driver.hear("exited")
    descriptors, blocked, ignored, files = facts.read_text().split("\n")[:4]

    assert int(descriptors) == 4  # 0, 1, 2 and the directory being listed
    assert int(blocked.split()[1], 16) == 0
    assert int(ignored.split()[1], 16) & ~THE_C_LIBRARYS == 0
    assert int(files) == 1024


def test_a_hundred_spawns_leave_no_zombie(driver: Driver) -> None:
    for number in range(1, 101):
        driver.spawn(number, "/bin/true")
        driver.hear("exited", number)

    children = Path(f"/proc/{driver.keeper}/task/{driver.keeper}/children").read_text().split()
    assert children == []


def test_the_keeper_is_small(driver: Driver) -> None:
    resident = next(line for line in Path(f"/proc/{driver.keeper}/status").read_text().splitlines() if "VmRSS" in line)

    assert int(resident.split()[1]) <= 12 * 1024  # kB
