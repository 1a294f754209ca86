"""`make bench`: Jelmore, a plain pipe and an afternoon's work, measured in turn in one run; prints ratios, asserts no time."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from benchmarks import arms, inside, measures, peers, pipe
from benchmarks.fanout import plan
from benchmarks.processes import NotReady, Running, servers
from benchmarks.report import HIGHER, LOWER, Report
from benchmarks.samples import Void

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.arms import Arm

INTERRUPTED = 130
KEEPER, IDLE, LAG = "keeper at its start MiB", "memory of an idle session kB", "worker's loop late ms"
GOALS = {KEEPER: 12.0, IDLE: 64.0, f"{LAG}, starting × quiet p99": 2.0}
STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The defaults make a round of about forty seconds on two cores."""

    rounds: int
    lines: int = 300  # of latency: three seconds
    inputs: int = 200
    flood: int = 300_000  # lines of 100 bytes
    slow_flood: int = 30_000  # line by line takes long: a tenth is enough to tell its rate
    seconds: float = 2.0  # of creating sessions
    idle: int = 200
    spawned: int = 800  # processes, by a keeper alone
    only: str | None = None
    fanout: plan.Sizes = plan.QUICK


@dataclass(frozen=True)
class Step:
    """One measure of one arm."""

    name: str
    better: str
    arm: str
    measure: Callable[[], dict[str, float] | float]


def main() -> int:
    """Measure, print, save; stop everything, also on Ctrl-C or SIGTERM."""
    sizes = _sizes()
    for number in STOPPING:
        signal.signal(number, _stop)  # Ctrl-C too: a shell's background job is started deaf to it
    try:
        report = _measured(sizes)
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        return INTERRUPTED
    except NotReady as why:
        print(why, file=sys.stderr)
        return 1
    report.show()
    print(f"Written to {report.save()}")
    return 0


def _stop(*_: object) -> NoReturn:
    """Leave, undisturbed by whoever asks again: stopping everything takes no more than some seconds."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _sizes() -> Sizes:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of all measures on all arms, in turn (3)")
    parser.add_argument("--quick", action="store_true", help="one small round: does it run at all?")
    parser.add_argument("--only", choices=("sessions", "fan-out"), help="one half of it")
    options = parser.parse_args()
    if options.quick:
        small = Sizes(rounds=1, lines=50, inputs=30, flood=30_000, slow_flood=5_000, seconds=1.0, idle=20, spawned=160)
        return replace(small, only=options.only)
    number = max(1, options.rounds)
    return Sizes(rounds=number, only=options.only, fanout=plan.Sizes(number))


def _measured(sizes: Sizes) -> Report:
    with tempfile.TemporaryDirectory(prefix="jelmore-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with servers(home) as addresses:
            report = Report(goals=dict(GOALS)) if sizes.only == "fan-out" else _of_sessions(addresses, home, sizes)
            if sizes.only != "sessions":
                plan.measure(report, addresses, home, sizes.fanout)
            return report


def _of_sessions(addresses: dict[str, str], home: Path, sizes: Sizes) -> Report:
    running = Running(home, peers.ROOT)
    try:
        ours = arms.jelmore(running, addresses, home)
        return run(ours, arms.afternoon(running, addresses), sizes)
    finally:
        running.stop()


def run(ours: Arm, peer: Arm | None, sizes: Sizes) -> Report:
    """Measure every arm in turn, round by round."""
    report = Report(goals=dict(GOALS))
    for step in once(ours, sizes):
        _take(report, step, "once")
    for number in range(sizes.rounds):
        for step in steps(ours, peer, sizes):
            _take(report, step, f"round {number + 1}/{sizes.rounds}")
    return report


def once(ours: Arm, sizes: Sizes) -> Iterator[Step]:
    """Return what is measured first, on a fresh worker: later ones live on what earlier sessions left."""
    yield Step(KEEPER, LOWER, ours.name, lambda: inside.keeper_memory(ours))
    yield Step(IDLE, LOWER, ours.name, lambda: inside.idle_memory(ours, sizes.idle))


def steps(ours: Arm, peer: Arm | None, sizes: Sizes) -> Iterator[Step]:
    """Return one round. The arms take turns within each measure, so that the machine's moods meet all of them."""
    both = [arm for arm in (ours, peer) if arm is not None]
    for arm in both:
        yield Step("latency ms", LOWER, arm.name, lambda arm=arm: measures.latency(arm, sizes.lines))  # type: ignore[misc]
    yield Step("latency ms", LOWER, "pipe", lambda: pipe.latency(sizes.lines))
    for arm in both:
        yield Step("input round trip ms", LOWER, arm.name, lambda arm=arm: measures.round_trip(arm, sizes.inputs))  # type: ignore[misc]
    yield Step("input round trip ms", LOWER, "pipe", lambda: pipe.round_trip(sizes.inputs))
    for arm in both:
        lines = sizes.flood if arm is ours else sizes.slow_flood
        yield Step("output MB/s", HIGHER, arm.name, lambda arm=arm, lines=lines: measures.throughput(arm, lines))  # type: ignore[misc]
    yield Step("output MB/s", HIGHER, "pipe", lambda: pipe.throughput(sizes.flood))
    for arm in both:
        yield Step("sessions/s", HIGHER, arm.name, lambda arm=arm: measures.creation(arm, sizes.seconds))  # type: ignore[misc]
    yield Step("processes/s, keeper alone", HIGHER, ours.name, lambda: inside.keeper_alone(sizes.spawned))
    yield Step("processes/s, keeper alone", HIGHER, "pipe", lambda: pipe.spawning(sizes.spawned))
    if (notes := ours.notes) is not None:
        yield Step(LAG, LOWER, ours.name, lambda: inside.hub_lag(ours, notes, sizes.idle))


def _take(report: Report, step: Step, when: str) -> None:
    """Take one sample; a void one is noted and left out."""
    print(f"{when}: {step.name}, {step.arm}", file=sys.stderr, flush=True)
    try:
        report.add(step.name, step.better, step.arm, step.measure())
    except (Void, OSError) as why:
        report.void.append(f"{when}: {step.name}, {step.arm}: {why}")
        print(f"  void: {why}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
