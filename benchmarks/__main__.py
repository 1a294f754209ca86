"""`make bench`: Jelmore, a plain pipe and an afternoon's work, measured in turn in one run; prints ratios, asserts no time."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from benchmarks import arms, inside, measures, mirroring, peers, pipe
from benchmarks.answering import Answering
from benchmarks.fanout import plan
from benchmarks.fronts import Fronts
from benchmarks.printing import plan as printing
from benchmarks.processes import NotReady, Running, servers
from benchmarks.report import HIGHER, LOWER, OURS, Ratio, Report
from benchmarks.samples import Void
from benchmarks.step import Step
from core.settings import load_settings
from migrations.__main__ import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arms import Arm
    from benchmarks.fronts import Front
    from benchmarks.processes import Servers

INTERRUPTED = 130
KEEPER, IDLE, LAG = "keeper at its start MiB", "memory of an idle session kB", "worker's loop late ms"
GOALS = {KEEPER: 12.0, IDLE: 64.0, f"{LAG}, starting × quiet p99": 2.0}
RATIOS = (
    *(
        Ratio("", f"POST session, {processes} web, requests/s", peer, times)
        for processes in (1, 2)
        for peer, times in (("textbook", 3.0), ("FastAPI", 1.0), ("Flower", 1.0))
    ),
    *(Ratio("", f"GET session, {processes} web, requests/s", "no-op", 0.6) for processes in (1, 2)),
)
EVENTS, LATE = "events/s to NATS", f"event to consumer ms at {mirroring.RATE}/s"
BARE = "nats-py"
ALL = "all"
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
    fanout: plan.Sizes = plan.QUICK
    printing: printing.Sizes = printing.QUICK
    events: int = 10_000
    late_seconds: float = 5.0


def main() -> int:
    """Measure, print, save; stop everything, also on Ctrl-C or SIGTERM."""
    sizes, parts = _options()
    for number in STOPPING:
        signal.signal(number, _stop)  # Ctrl-C too: a shell's background job is started deaf to it
    try:
        report = _measured(sizes, parts)
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


def _options() -> tuple[Sizes, str]:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of all measures on all arms, in turn (3)")
    parser.add_argument("--quick", action="store_true", help="one small round: does it run at all?")
    parser.add_argument("--part", choices=(ALL, *PARTS), default=ALL, help="one of: " + ", ".join(PARTS))
    options = parser.parse_args()
    if options.quick:
        small = Sizes(
            rounds=1,
            lines=50,
            inputs=30,
            flood=30_000,
            slow_flood=5_000,
            seconds=1.0,
            idle=20,
            spawned=160,
            events=2_000,
            late_seconds=1.0,
        )
        return small, options.part
    number = max(1, options.rounds)
    return Sizes(rounds=number, fanout=plan.Sizes(number), printing=printing.Sizes(number)), options.part


def _measured(sizes: Sizes, parts: str) -> Report:
    """Measure the parts, one after the other and each on servers of its own: a worker would run what another creates."""
    report = Report(goals=dict(GOALS))
    for part in PARTS if parts == ALL else (parts,):
        with tempfile.TemporaryDirectory(prefix="jelmore-bench-", ignore_cleanup_errors=True) as folder:
            home = Path(folder)
            with servers(home) as started:
                running = Running(home, peers.ROOT)
                try:
                    PARTS[part](report, running, started, home, sizes)
                finally:
                    running.stop()
    return report


def _sessions(report: Report, running: Running, started: Servers, home: Path, sizes: Sizes) -> None:
    """Measure every arm in turn, round by round."""
    report.ratios.append(Ratio("S6", "input round trip ms, p50", "afternoon", 1.5, at_most=True))
    ours, peer = arms.jelmore(running, started.addresses, home), arms.afternoon(running, started.addresses)
    for step in once(ours, sizes):
        _take(report, step, "once")
    for number in range(sizes.rounds):
        for step in steps(ours, peer, sizes):
            _take(report, step, f"round {number + 1}/{sizes.rounds}")


def _requests(report: Report, running: Running, started: Servers, home: Path, sizes: Sizes) -> None:
    """Measure every web tier in turn, round by round."""
    report.ratios.extend(RATIOS)
    upgrade(load_settings(started.addresses).database_url)
    answering = Answering(running, started.addresses, started.roots, sizes.seconds)
    made = Fronts(running, started.addresses, str(home))
    fronts = made.all()
    try:
        for number in range(sizes.rounds):
            for step in answers(answering, fronts):
                _take(report, step, f"round {number + 1}/{sizes.rounds}")
    finally:
        answering.close()


def _fan_out(report: Report, _: Running, started: Servers, home: Path, sizes: Sizes) -> None:
    """Measure one session with many followers; its arms start and stop processes of their own."""
    plan.measure(report, started.addresses, home, sizes.fanout)


def _events(report: Report, running: Running, started: Servers, home: Path, sizes: Sizes) -> None:
    """Measure events through the mirror, and nats-py that publishes the same."""
    report.ratios.append(Ratio("", EVENTS, BARE, 0.5))
    with mirroring.plant(running, started.addresses, home) as plant:
        for number in range(sizes.rounds):
            for step in (
                Step(EVENTS, HIGHER, OURS, partial(mirroring.mirrored, plant, sizes.events)),
                Step(EVENTS, HIGHER, BARE, partial(mirroring.published, plant, sizes.events)),
                Step(LATE, LOWER, OURS, partial(mirroring.late_mirrored, plant, sizes.late_seconds)),
                Step(LATE, LOWER, BARE, partial(mirroring.late_published, plant, sizes.late_seconds)),
            ):
                _take(report, step, f"round {number + 1}/{sizes.rounds}")


def _printing(report: Report, running: Running, started: Servers, home: Path, sizes: Sizes) -> None:
    """Measure what programs print, beside websocketd."""
    for step, when in printing.prepare(report, running, started, home, sizes.printing):
        _take(report, step, when)


PARTS: Final = {
    "sessions": _sessions,
    "requests": _requests,
    "printing": _printing,
    "fan-out": _fan_out,
    "events": _events,
}


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
    yield Step(
        "processes/s, keeper alone", HIGHER, ours.name, lambda: inside.spawned("keeper", sizes.spawned)["processes/s"]
    )
    yield Step("processes/s, keeper alone", HIGHER, "pipe", lambda: pipe.spawning(sizes.spawned))
    if (notes := ours.notes) is not None:
        yield Step(LAG, LOWER, ours.name, lambda: inside.hub_lag(ours, notes, sizes.idle))


def answers(answering: Answering, fronts: list[Front]) -> Iterator[Step]:
    """Return one round of requests, to web tiers on one process and on two."""
    for processes in (1, 2):
        for what, measure, others in (
            ("POST session", answering.creating, ("textbook", "FastAPI", "Flower")),
            ("GET session", answering.showing, ("no-op",)),
            ("POST input", answering.typing, ("no-op",)),
        ):
            for front in fronts:
                if front.processes in (processes, None) and front.name in (OURS, *others):
                    yield Step(f"{what}, {processes} web", LOWER, front.name, partial(measure, front))


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
