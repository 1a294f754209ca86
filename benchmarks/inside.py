"""What is measured of Jelmore alone, from within: memory, the keeper, and how long the worker's loop is held up."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
import time
from array import array
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.client import Client, follow
from benchmarks.measures import CONNECTIONS, create, wait_until
from benchmarks.samples import HERE, Void, delays, quantiles, stamping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.arms import Arm

WARMING: Final = 5
SETTLING_SECONDS: Final = 1.5
"""Longer than a segment's second: what starting sessions took is stored and given back."""
QUIET_SECONDS: Final = 3.0
LINES: Final = 1500
"""Of the neighbour: fifteen seconds, longer than starting takes."""
ALONE_SECONDS: Final = 60
SLEEP: Final = "exec sleep 1000"


# Memory.


def idle_memory(arm: Arm, count: int) -> dict[str, float]:
    """Measure what an idle session adds to the worker and its keeper. kB, as resident and, where it may be read, as shared out."""
    warming = _begin(arm, WARMING, "exec cat")  # what is imported or allocated once is no session's
    time.sleep(SETTLING_SECONDS)
    before = _memory(arm.worker)
    sessions = _begin(arm, count, "exec cat")
    time.sleep(SETTLING_SECONDS)
    after = _memory(arm.worker)
    _end(arm, warming + sessions)
    return {name: (after[name] - before[name]) / count for name in before}


def keeper_memory(arm: Arm) -> float:
    """Measure a keeper that has kept nothing yet. MiB resident."""
    return next(_kilobytes(f"/proc/{pid}/status", "VmRSS:") for pid in _children(arm.worker)) / 1024


def _memory(worker: int) -> dict[str, float]:
    """Return the kB of a worker and its child, the keeper; the sessions' processes are the keeper's children."""
    pids = (worker, *_children(worker))
    found = {"": sum(_kilobytes(f"/proc/{pid}/status", "VmRSS:") for pid in pids)}
    try:
        found["PSS"] = sum(_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)
    except OSError:  # their memory is closed to all but root
        pass
    return found


def _children(worker: int) -> list[int]:
    return list(map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split()))


def _kilobytes(file: str, name: str) -> float:
    return next((float(line.split()[1]) for line in Path(file).read_text().splitlines() if line.startswith(name)), 0.0)


# The keeper.


def spawned(kind: str, count: int, mib: int = 0) -> dict[str, float]:
    """Measure who spawns (`benchmarks.spawning`), in a process of its own, of so many MiB: gevent's patches stay there."""
    command = [sys.executable, "-m", "benchmarks.spawning", kind, str(count), str(mib)]
    said = subprocess.run(
        command, capture_output=True, check=True, timeout=ALONE_SECONDS, cwd=Path(__file__).parents[1]
    )
    found: dict[str, float] = json.loads(said.stdout)
    return found


# The loop.


def hub_lag(arm: Arm, notes: Path, count: int) -> dict[str, float]:
    """Measure how late the worker's loop wakes a greenlet, quiet and while so many sessions are started; and a neighbour's lines.

    Milliseconds. `notes` is what `watched` writes. The neighbour prints a hundred lines a second all the while, and a process that
    only sleeps tells how late the machine itself is.
    """
    machine = notes.with_name("machine")
    with _sleeping(machine):
        neighbour = _Neighbour(arm)
        begin = time.monotonic()
        time.sleep(QUIET_SECONDS)
        quiet = time.monotonic()
        sessions = _begin(arm, count, SLEEP)
        started = time.monotonic()
        neighbour.join()
    _end(arm, sessions)
    found: dict[str, float] = {}
    for name, first, last in (("quiet", begin, quiet), ("starting", quiet, started)):
        loop, bare, lines = (_within(pairs, first, last) for pairs in (_lags(notes), _lags(machine), neighbour.delays))
        found |= {f"{name} p50": loop["p50"], f"{name} p99": loop["p99"]}
        found |= {f"{name}, the machine p99": bare["p99"], f"{name}, a line p99": lines["p99"]}
    return found | {"starting × quiet p99": found["starting p99"] / found["quiet p99"]}


@contextmanager
def _sleeping(notes: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, str(HERE / "sleeper.py"), str(notes)]) as sleeper:
        try:
            yield
        finally:
            sleeper.kill()


def _within(pairs: list[tuple[float, float]], first: float, last: float) -> dict[str, float]:
    return quantiles([milliseconds for at, milliseconds in pairs if first <= at <= last])


class _Neighbour:
    """A session that prints stamped lines; `delays` are (when read, milliseconds on the way)."""

    def __init__(self, arm: Arm) -> None:
        self.delays: list[tuple[float, float]] = []
        self._arm = arm
        self._session_id = create(arm, "exec " + shlex.join(stamping(LINES)))
        events = follow(arm.port, self._session_id)
        self._first = next(event for event in events if event.name == "output")
        self._events = events
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        outputs = [self._first, *(event for event in self._events if event.name == "output")]
        lines = [(line, event.at) for event in outputs for line in event.content.splitlines()]
        found = delays(lines, LINES)
        self.delays = [(at / 1e9, delay) for (_, at), delay in zip(lines, found, strict=True)]

    def join(self) -> None:
        """Wait for its end. Raises Void if a line was missing."""
        self._thread.join(LINES / 100 + ALONE_SECONDS)
        if not self.delays:
            raise Void("the neighbour's lines did not come, or not as they were printed")


def _lags(notes: Path) -> list[tuple[float, float]]:
    pairs = array("d")
    whole = notes.read_bytes()
    pairs.frombytes(whole[: len(whole) // 16 * 16])
    return list(zip(pairs[::2], pairs[1::2], strict=True))


# Sessions.


def _begin(arm: Arm, count: int, query: str) -> list[str]:
    """Start so many sessions over many connections, and wait until all are active."""
    sessions: list[str] = []

    def post(number: int) -> None:
        client = Client(arm.port)
        sessions.extend(client.create(query) for _ in range(number, count, CONNECTIONS))
        client.close()

    in_threads(post)
    client = Client(arm.port)
    wait_until(lambda: not client.ask("GET", "?limit=1&status=initializing"), "idle sessions begin")
    client.close()
    return sessions


def _end(arm: Arm, sessions: list[str]) -> None:
    for session_id in sessions:
        arm.end(session_id)
    wait_until(arm.is_quiet, "idle sessions end")


def in_threads(work: Callable[[int], None]) -> None:
    """Do something in as many threads as there are connections."""
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
