"""What is measured of an arm. A run with a line missing, repeated or out of order is void: it raises Void."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.client import Client, follow
from runner import marks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.arms import Arm

CONNECTIONS: Final = 16
FIRST_PAUSE = "sleep 0.7; "
"""Pub/sub replays nothing: what is printed before the follower has subscribed would be lost on the afternoon's arm."""
STAMPS: Final = (
    "import sys,time\n"
    "time.sleep(0.7)\n"
    "for n in range(%d):\n"
    "    sys.stdout.write(f'{n} {time.monotonic_ns()}\\n'); sys.stdout.flush(); time.sleep(0.01)\n"
)


class Void(Exception):
    """The arm lost, repeated or reordered something."""


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(values)
    return {"p50": median(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


def _delays(lines: Iterable[tuple[str, int]]) -> list[float]:
    """Return milliseconds from each line's stamp to its reading; the lines' numbers must be 0, 1, 2 …"""
    delays = []
    for expected, (line, at) in enumerate(lines):
        number, stamp = line.split()
        if int(number) != expected:
            raise Void(f"line {number} came where {expected} was due")
        delays.append((at - int(stamp)) / 1e6)
    return delays


def _stamping(count: int) -> list[str]:
    return [sys.executable, "-c", STAMPS % count]


def latency(arm: Arm, count: int) -> dict[str, float]:
    """Measure `write()` to the client's reading, 100 lines a second. Milliseconds."""
    program = Path(__file__).with_name("stamps.py")
    session_id = Client(arm).create(f"exec {sys.executable} {program} {count}")
    lines = [
        (line, at)
        for event, data, at in follow(arm, session_id)
        if event == "output"
        for line in data["content"].splitlines()
    ]
    if len(lines) != count:
        raise Void(f"{len(lines)} of {count} lines came")
    return quantiles(_delays(lines))


def pipe_latency(count: int) -> dict[str, float]:
    """Measure the same over a pipe, read in this process."""
    with subprocess.Popen(_stamping(count), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return quantiles(_delays([(line, time.monotonic_ns()) for line in process.stdout]))


def throughput(arm: Arm, lines: int) -> float:
    """Measure one session's flood, from its first line to its end. MB/s of what was printed."""
    session_id = Client(arm).create(f"{FIRST_PAUSE}seq 1 {lines}")
    first = last = 0
    expected, rest, size = 1, "", 0
    for event, data, at in follow(arm, session_id):
        if event == "output":
            first = first or at
            content = rest + data["content"]
            size += len(data["content"])
            *whole, rest = content.split("\n")
            if whole and (int(whole[0]) != expected or int(whole[-1]) != expected + len(whole) - 1):
                raise Void(f"{whole[0]} came where {expected} was due")
            expected += len(whole)
        last = at
    if expected != lines + 1:
        raise Void(f"{expected - 1} of {lines} lines came")
    return size / 1e6 / ((last - first) / 1e9)


def pipe_throughput(lines: int) -> float:
    """Measure the same over a pipe."""
    with subprocess.Popen(["seq", "1", str(lines)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        start, size = time.monotonic(), 0
        while chunk := process.stdout.read(65536):
            size += len(chunk)
        return size / 1e6 / (time.monotonic() - start)


def creation(arm: Arm, seconds: float) -> float:
    """Measure POST /sessions over several connections. Requests a second; the sessions are run meanwhile."""
    deadline = time.monotonic() + seconds
    counts = [0] * CONNECTIONS

    def post(number: int) -> None:
        client = Client(arm)
        while time.monotonic() < deadline:
            client.create("true")
            counts[number] += 1

    threads = [threading.Thread(target=post, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def round_trip(arm: Arm, count: int) -> dict[str, float]:
    """Measure from POST input to its echo on the stream. Milliseconds."""
    client = Client(arm)
    session_id = client.create("exec cat")
    echoes = follow(arm, session_id)
    next(echoes)
    time.sleep(0.7)
    delays = []
    for number in range(count):
        start = time.monotonic_ns()
        client.post(f"/{session_id}/input", {"input": f"echo-{number}"})
        for event, data, at in echoes:
            if event == "output":
                if data["content"] != f"echo-{number}\n":
                    raise Void(f"{data['content']!r} came where echo-{number} was due")
                delays.append((at - start) / 1e6)
                break
    client.delete(session_id)
    echoes.close()  # type: ignore[attr-defined]
    return quantiles(delays)


def pipe_round_trip(count: int) -> dict[str, float]:
    """Measure the same with a process of our own."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        delays = []
        for number in range(count):
            start = time.monotonic_ns()
            process.stdin.write(b"echo-%d\n" % number)
            process.stdout.read(64)
            delays.append((time.monotonic_ns() - start) / 1e6)
        process.stdin.close()
    return quantiles(delays)


def idle_memory(arm: Arm, count: int) -> float:
    """Measure what an idle session adds to the worker and its keeper. kB."""
    client = Client(arm)
    before = _resident(arm)
    sessions = [client.create("exec sleep 60") for _ in range(count)]
    deadline = time.monotonic() + 30
    while len(marks.find(lambda _: True)) < count:
        if time.monotonic() > deadline:
            raise Void("the idle sessions did not start")
        time.sleep(0.1)
    time.sleep(1)
    after = _resident(arm)
    for session_id in sessions:
        client.post(f"/{session_id}/input", {"input": ""})
        client.delete(session_id)
    return (after - before) / count


def _resident(arm: Arm) -> int:
    """Return kB resident in a worker and its children that are ours: the keeper."""
    pids = [arm.worker]
    children = Path(f"/proc/{arm.worker}/task/{arm.worker}/children").read_text().split()
    pids += [int(pid) for pid in children]
    return sum(_kilobytes(pid) for pid in pids)


def _kilobytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0
