"""What is measured of printing, in which order, and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks import arms, inside
from benchmarks.building import built
from benchmarks.printing import measures
from benchmarks.printing.arms import WEBSOCKETD, Sessions, websocketd
from benchmarks.printing.kept import kept_in_redis
from benchmarks.report import HIGHER, LOWER, OURS, Ratio
from benchmarks.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.printing.arms import Printer
    from benchmarks.processes import Running, Servers
    from benchmarks.report import Report

AFTERNOON: Final = "afternoon"
GEVENT: Final = "gevent.subprocess"
SLOTS: Final = 1100
ONE, MANY, THOUSAND = "a line's way ms, 1 × 100/s", "a line's way ms, 200 × 10/s", "a line's way ms, 1000 × 2/s"
FLOOD, FLOODS = "flood lines/s", "ten floods lines/s"
SPAWNED: Final = "spawning in 400 MiB"
WORKER_MIB: Final = 400
KEPT: Final = "Redis keeps of a stored flood, MiB"
IDLE: Final = "one of a thousand sessions kB"
RATIOS: Final = (
    Ratio("S4", f"{ONE}, p50", WEBSOCKETD, 5, at_most=True),
    Ratio("S4", f"{ONE}, p50", AFTERNOON, 0.7, at_most=True),
    Ratio("S4", f"{MANY}, p50", AFTERNOON, 0.5, at_most=True),
    Ratio("S5", FLOOD, WEBSOCKETD, 5),
    Ratio("S5", FLOOD, AFTERNOON, 200),
    Ratio("S5", FLOODS, WEBSOCKETD, 4),
    Ratio("S8", f"{THOUSAND}, p99", WEBSOCKETD, 3, at_most=True),
    Ratio("S8", f"{SPAWNED}, processes/s", GEVENT, 5),
)
GOALS: Final = {KEPT: 1.0, IDLE: 64.0, f"{SPAWNED}, hub ms each": 0.2}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    lines: int = 300
    many: int = 200
    thousand: int = 1000
    flood: int = 300_000
    slow_flood: int = 30_000
    spawned: int = 400
    seconds: int = 20
    """How long many programs print: the first waits for the last one to begin."""


QUICK: Final = Sizes(rounds=1, lines=60, many=20, thousand=50, flood=30_000, slow_flood=5_000, spawned=48, seconds=5)


def prepare(report: Report, running: Running, started: Servers, home: Path, sizes: Sizes) -> Iterator[tuple[Step, str]]:
    """Start the arms, and return what is to be measured of them, and when."""
    report.ratios.extend(RATIOS)
    report.goals.update(GOALS)
    stamps = built("printing/stamps")
    ours = arms.jelmore(running, started.addresses, home, slots=SLOTS)
    yield Step(KEPT, LOWER, OURS, partial(kept_in_redis, ours, started.addresses, sizes.flood)), "once"
    yield Step(IDLE, LOWER, OURS, partial(inside.idle_memory, ours, sizes.thousand)), "once"
    peer = arms.afternoon(running, started.addresses)
    printers: list[Printer | None] = [Sessions(ours), Sessions(peer) if peer else None, websocketd(running)]
    for number in range(sizes.rounds):
        for step in _round([printer for printer in printers if printer], stamps, sizes):
            yield step, f"round {number + 1}/{sizes.rounds}"


def _round(printers: list[Printer], stamps: Path | None, sizes: Sizes) -> Iterator[Step]:
    quick = [printer for printer in printers if printer.name != AFTERNOON]
    if stamps is not None:
        for row, who, count, rate in (
            (ONE, printers, 1, 100),
            (MANY, printers, sizes.many, 10),
            (THOUSAND, quick, sizes.thousand, 2),  # the afternoon's worker takes two hundred
        ):
            lines = sizes.lines if count == 1 else sizes.seconds * rate
            for printer in who:
                yield Step(row, LOWER, printer.name, partial(measures.on_the_way, printer, stamps, count, lines, rate))
    for printer in printers:
        lines = sizes.slow_flood if printer.name == AFTERNOON else sizes.flood
        yield Step(FLOOD, HIGHER, printer.name, partial(measures.flood, printer, 1, lines))
    for printer in quick:
        yield Step(FLOODS, HIGHER, printer.name, partial(measures.flood, printer, 10, sizes.flood // 5))
    yield Step(SPAWNED, LOWER, OURS, partial(inside.spawned, "keeper", sizes.spawned, WORKER_MIB))
    yield Step(SPAWNED, LOWER, GEVENT, partial(inside.spawned, "gevent", sizes.spawned, WORKER_MIB))
