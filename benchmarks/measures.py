"""What is measured of an arm that is reached over HTTP. A run that breaks a law of `samples.py` raises Void."""

from __future__ import annotations

import shlex
import threading
import time
from typing import TYPE_CHECKING, Final

from benchmarks.client import Client, follow
from benchmarks.samples import Void, delays, flooding, megabytes_per_second, quantiles, stamping

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.arms import Arm

CONNECTIONS: Final = 16
QUIET_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.05


def latency(arm: Arm, count: int) -> dict[str, float]:
    """Measure `write()` to the client's reading, 100 lines a second. Milliseconds."""
    session_id = create(arm, "exec " + shlex.join(stamping(count)))
    outputs = [event for event in follow(arm.port, session_id) if event.name == "output"]
    lines = [(line, event.at) for event in outputs for line in event.content.splitlines()]
    return quantiles(delays(lines, count))


def throughput(arm: Arm, lines: int) -> float:
    """Measure one session's flood, from its first `write()` to the stream's end. MB/s of what was printed."""
    session_id = create(arm, "exec " + shlex.join(flooding(lines)))
    events = list(follow(arm.port, session_id))  # parsed when the clock has stopped: the client is not what is measured
    output = "".join(event.content for event in events if event.name == "output")
    if events[-1].name != "terminated" or not output:
        raise Void(f"the stream ended with {events[-1].name}, after {len(output)} bytes")
    return megabytes_per_second(output.encode(), lines, events[-1].at)


def round_trip(arm: Arm, count: int) -> dict[str, float]:
    """Measure from POST input to its echo on the stream. Milliseconds."""
    client = Client(arm.port)
    session_id = client.create("exec cat")
    events = follow(arm.port, session_id)
    next(events)
    time.sleep(0.7)  # the afternoon's worker tells nobody when it has begun to listen
    times = []
    for number in range(count):
        start = time.monotonic_ns()
        client.ask("POST", f"/{session_id}/input", {"input": f"echo-{number}"})
        echo = next(event for event in events if event.name == "output")
        times.append((echo.at - start) / 1e6)
        if echo.content.strip() != f"echo-{number}":
            raise Void(f"{echo.content!r} came where echo-{number} was due")
    arm.end(session_id)
    return quantiles(times)


def creation(arm: Arm, seconds: float) -> dict[str, float]:
    """Measure POST /sessions over 16 connections, and how many sessions a second are begun and ended until all are."""
    start = time.monotonic()
    counts = [0] * CONNECTIONS

    def post(number: int) -> None:
        client = Client(arm.port)
        while time.monotonic() < start + seconds:
            client.create("true")
            counts[number] += 1
        client.close()

    threads = [threading.Thread(target=post, args=(number,), daemon=True) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    posted = time.monotonic()
    wait_until(arm.is_quiet, f"sessions of {arm.name} end")
    return {"created": sum(counts) / (posted - start), "created, run, ended": sum(counts) / (time.monotonic() - start)}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so. Raises Void if it takes too long."""
    deadline = time.monotonic() + QUIET_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Void(f"waited {QUIET_SECONDS:.0f} s in vain until {what}")
        time.sleep(POLL_SECONDS)


def create(arm: Arm, query: str) -> str:
    """Create a session; return its id."""
    client = Client(arm.port)
    session_id = client.create(query)
    client.close()
    return session_id
