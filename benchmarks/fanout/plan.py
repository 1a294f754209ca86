"""What is measured of fan-out, in which order, and what is wanted of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.fanout.arms import EVENTS, OURS, SOCKETS, FanArm
from benchmarks.fanout.measures import Crowd, fan_out
from benchmarks.processes import NotReady
from benchmarks.report import HIGHER, LOWER, Ratio, Report
from benchmarks.samples import Void

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SSE, WEBSOCKET, STALLED, MANY = "SSE fan-out", "WebSocket fan-out", "SSE fan-out, a tenth stalled", "4000 SSE followers"
UNSTALLED: Final = "none stalled"
CAP_KB: Final = 512
"""What a follower that reads nothing may cost: a look at the log, as JSON."""
PARTS: Final = {
    "rate": (HIGHER, "deliveries/s"),
    "p50_ms": (LOWER, "p50 ms"),
    "p99_ms": (LOWER, "p99 ms"),
    "cpu_us": (LOWER, "CPU µs a delivery"),
    "rss_kb": (LOWER, "kB a follower"),
    "health_p50_ms": (LOWER, "health p50 ms"),
    "health_p99_ms": (LOWER, "health p99 ms"),
}
RATIOS: Final = (
    Ratio("S1", f"{SSE}, deliveries/s", "nchan", 1.0),
    Ratio("S1", f"{SSE}, deliveries/s", "flask-sse", 20),
    Ratio("S1", f"{SSE}, deliveries/s", "sse-starlette", 8),
    Ratio("S1", f"{SSE}, CPU µs a delivery", "floor", 1.5, at_most=True),
    Ratio("S2", f"{WEBSOCKET}, deliveries/s", "nchan", 0.8),
    Ratio("S2", f"{WEBSOCKET}, deliveries/s", "flask-sock", 5),
    Ratio("S9", f"{STALLED}, deliveries/s", UNSTALLED, 0.95),
    Ratio("S9", f"{STALLED}, p99 ms", UNSTALLED, 1.25, at_most=True),
)
GOALS: Final = {f"{MANY}, kB a follower": 4.0, f"{STALLED}, kB a stalled one": float(CAP_KB)}


@dataclass(frozen=True)
class Measure:
    """One row of one arm. `arm`: who is measured; `name`: as whom."""

    row: str
    arm: FanArm
    crowd: Crowd
    name: str


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Slow arms get fewer messages: their rate is told by a few."""

    rounds: int
    followers: int = 1000
    messages: int = 1000
    slow_messages: int = 60
    many: int = 4000


SLOW: Final = frozenset({"flask-sse", "sse-starlette", "flask-sock"})
QUICK: Final = Sizes(rounds=1, followers=100, messages=50, slow_messages=20, many=400)


def measure(report: Report, addresses: dict[str, str], home: Path, sizes: Sizes) -> None:
    """Measure all arms in turn, round by round."""
    report.ratios.extend(RATIOS)
    report.goals.update(GOALS)
    missing: set[str] = set()
    for number in range(sizes.rounds):
        for wanted in _round(sizes, is_last=number == sizes.rounds - 1):
            if wanted.name not in missing:
                _take(report, wanted, addresses, home, f"round {number + 1}/{sizes.rounds}", missing)


def _round(sizes: Sizes, *, is_last: bool) -> Iterator[Measure]:
    for row, arms in ((SSE, EVENTS), (WEBSOCKET, SOCKETS)):
        for arm in arms:
            messages = sizes.slow_messages if arm.name in SLOW else sizes.messages
            yield Measure(row, arm, Crowd(sizes.followers, messages), arm.name)
    healthy = sizes.followers // 5
    for stalled, name in ((healthy // 10, OURS.name), (0, UNSTALLED)):
        yield Measure(STALLED, OURS, Crowd(healthy, sizes.messages, size=4096, stalled=stalled), name)
    if is_last:
        yield Measure(MANY, OURS, Crowd(sizes.many, sizes.messages // 10, window=0, asks_health=True), OURS.name)


def _take(report: Report, wanted: Measure, addresses: dict[str, str], home: Path, when: str, missing: set[str]) -> None:
    """Take one sample; a void one is noted and left out, and so is an arm that cannot be had."""
    print(f"{when}: {wanted.row}, {wanted.name}", file=sys.stderr, flush=True)
    try:
        found = fan_out(wanted.arm, addresses, home, wanted.crowd)
    except (Void, NotReady, OSError) as why:
        report.void.append(f"{when}: {wanted.row}, {wanted.name}: {why}")
        print(f"  void: {why}", file=sys.stderr)
        return
    if found is None:
        missing.add(wanted.name)
        return
    for part, (better, name) in PARTS.items():
        if part in found:
            report.add(f"{wanted.row}, {name}", better, wanted.name, found[part])
    if wanted.crowd.stalled:
        report.add(f"{wanted.row}, kB a stalled one", LOWER, wanted.name, found["grown_kb"] / wanted.crowd.stalled)
