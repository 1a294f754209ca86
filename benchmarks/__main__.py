"""`make bench`: Jelmore, a plain pipe and an afternoon's work, measured in turn in one run; prints ratios, asserts no time."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import arms, measures

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.arms import Arm

Sample = dict[str, float] | float
RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """Run every measure on every arm, some rounds, interleaved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all?")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="jelmore-bench-") as folder:
        home = Path(folder)
        running = arms.Running(home)
        with arms.servers(home) as addresses:
            try:
                measured = run(
                    arms.jelmore(running, addresses, home), arms.afternoon(running, addresses), rounds, options.quick
                )
            finally:
                running.stop()
    show(measured)
    save(measured)
    return 0


def run(ours: Arm, peer: Arm | None, rounds: int, quick: bool) -> dict[str, dict[str, Any]]:
    """Return the samples' medians by measure and arm."""
    count, lines, seconds = (50, 200_000, 1.0) if quick else (300, 3_000_000, 3.0)
    peer_lines = min(lines, 200_000)  # line by line it is slow: a fifteenth is enough to tell its rate
    plan: list[tuple[str, str, Callable[[], Sample]]] = []
    for name, measure, pipe in (
        ("latency ms", lambda arm: measures.latency(arm, count), lambda: measures.pipe_latency(count)),
        ("input round trip ms", lambda arm: measures.round_trip(arm, count), lambda: measures.pipe_round_trip(count)),
    ):
        plan += _on_both(name, measure, ours, peer)
        plan.append((name, "pipe", pipe))
    plan.append(("output MB/s", "Jelmore", lambda: measures.throughput(ours, lines)))
    if peer:
        plan.append(("output MB/s", "afternoon", lambda: measures.throughput(peer, peer_lines)))
    plan.append(("output MB/s", "pipe", lambda: measures.pipe_throughput(lines)))
    plan += _on_both("POST sessions/s", lambda arm: measures.creation(arm, seconds), ours, peer)
    samples: dict[str, dict[str, list[Sample]]] = {}
    for number in range(rounds):
        for name, arm_name, measure_now in plan:
            print(f"round {number + 1}/{rounds}: {name}, {arm_name}", file=sys.stderr, flush=True)
            sample = _unless_void(measure_now)
            if sample is not None:
                samples.setdefault(name, {}).setdefault(arm_name, []).append(sample)
    samples["memory of an idle session kB"] = {"Jelmore": [measures.idle_memory(ours, 20 if quick else 100)]}
    return {name: {arm: _middle(values) for arm, values in by_arm.items()} for name, by_arm in samples.items()}


def _on_both(
    name: str, measure: Callable[[Arm], Sample], ours: Arm, peer: Arm | None
) -> list[tuple[str, str, Callable[[], Sample]]]:
    return [(name, arm.name, lambda arm=arm: measure(arm)) for arm in (ours, peer) if arm is not None]  # type: ignore[misc]


def _unless_void(measure: Callable[[], Sample]) -> Sample | None:
    try:
        return measure()
    except measures.Void as why:
        print(f"  void: {why}", file=sys.stderr)
        return None


def _middle(values: list[Sample]) -> Any:
    if isinstance(values[0], dict):
        return {name: median(value[name] for value in values if isinstance(value, dict)) for name in values[0]}
    return median(value for value in values if isinstance(value, float))


def show(measured: dict[str, dict[str, Any]]) -> None:
    """Print a table: what was measured, and Jelmore's ratio to the others."""
    load = os.getloadavg()[0]
    print(f"\n{platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}; medians; voided runs left out\n")
    print(f"{'':<32}{'Jelmore':>10}{'afternoon':>12}{'pipe':>10}{'× afternoon':>14}{'× pipe':>10}")
    for name, by_arm in measured.items():
        for part in ("p50", "p99") if isinstance(by_arm.get("Jelmore"), dict) else ("",):
            values = {arm: value[part] if part else value for arm, value in by_arm.items()}
            print(f"{f'{name} {part}':<32}" + _cells(values))
    print()


def _cells(values: dict[str, float]) -> str:
    ours = values.get("Jelmore")
    cells = [f"{values[arm]:.3g}" if arm in values else "-" for arm in ("Jelmore", "afternoon", "pipe")]
    others = ("afternoon", "pipe")
    cells += [f"{ours / values[arm]:.2f}" if ours is not None and values.get(arm) else "-" for arm in others]
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, (10, 12, 10, 14, 10), strict=True))


def save(measured: dict[str, dict[str, Any]]) -> None:
    """Write the results beside the code; git ignores them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y-%m-%dT%H%M%S')}.json"
    facts = {"python": platform.python_version(), "cores": os.cpu_count(), "kernel": platform.release()}
    path.write_text(json.dumps({"machine": facts, "medians": measured}, indent=2) + "\n")
    print(f"Written to {path}")


if __name__ == "__main__":
    sys.exit(main())
