"""What a run found: medians and spreads over the rounds, ratios, the machine; printed and written to a file."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")
OURS: Final = "Jelmore"
TABLES: Final = (
    (OURS, "afternoon", "pipe"),
    (OURS, "textbook", "FastAPI", "Flower", "no-op"),
    (OURS, "nchan", "sse-starlette", "flask-sse", "floor"),
    (OURS, "nchan", "flask-sock"),
    (OURS, "afternoon", "websocketd"),
    (OURS, "gevent.subprocess"),
)
"""The arms of each table; a row stands in the first that has all of its arms, or in a table of its own."""
LOWER: Final = "lower is better"
HIGHER: Final = "higher is better"
WIDTHS: Final = 44, 12


@dataclass(frozen=True)
class Ratio:
    """What Jelmore's number of a row should be, beside another arm's: at least, or at most, so many times it."""

    goal: str
    row: str
    arm: str
    times: float
    at_most: bool = False

    def shown(self, by_arm: dict[str, list[float]]) -> str:
        """Return the line that says whether it is so."""
        sign = "≤" if self.at_most else "≥"
        what = " ".join(filter(None, (self.goal, self.row)))
        said = f"goal: {what} {sign} {self.times:g} × {self.arm}: "
        ours, theirs = by_arm.get(OURS), by_arm.get(self.arm)
        if not ours or not theirs or not median(theirs):
            return said + "not measured"
        ratio = median(ours) / median(theirs)
        is_met = ratio <= self.times if self.at_most else ratio >= self.times
        return f"{said}{'met' if is_met else 'MISSED'}, {ratio:.3g} ({median(ours):.4g} : {median(theirs):.4g})"


@dataclass
class Report:
    """Samples by row and arm; a row is one number of a measure, as "latency ms, p50"."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)
    goals: dict[str, float] = field(default_factory=dict)
    """What a row of Jelmore's should be at most."""
    ratios: list[Ratio] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: {"load_before": os.getloadavg()[0]})

    def add(self, name: str, better: str, arm: str, sample: dict[str, float] | float) -> None:
        """Take a sample; one of several numbers makes several rows, of which rates are better when higher."""
        for part, value in (sample if isinstance(sample, dict) else {"": sample}).items():
            row = f"{name}, {part}" if part else name
            self.better[row] = HIGHER if part.endswith("/s") else better
            self.samples.setdefault(row, {}).setdefault(arm, []).append(value)

    def show(self) -> None:
        """Print the table."""
        for arms in dict.fromkeys([*TABLES, *map(_table_of, self.samples.values())]):
            self._show_table(arms)
        for row, goal in self.goals.items():
            if (values := self.samples.get(row, {}).get(OURS)) is not None:
                print(f"goal: {row} ≤ {goal:g}: {'met' if median(values) <= goal else 'MISSED'}, {median(values):.3g}")
        for ratio in self.ratios:
            print(ratio.shown(self.samples.get(ratio.row, {})))
        print(f"\nspread: Jelmore's rounds, lowest and highest, to their median. Void runs, left out: {len(self.void)}")
        for why in self.void:
            print(f"  {why}")
        print(", ".join(f"{name} {value}" for name, value in self._facts().items()))

    def _show_table(self, arms: tuple[str, ...]) -> None:
        rows = {row: by_arm for row, by_arm in self.samples.items() if _table_of(by_arm) == arms}
        if not rows:
            return
        print("\n" + _line(("medians", *arms, *(f"× {arm}" for arm in arms[1:]), "spread")))
        for row, by_arm in rows.items():
            medians = {arm: median(values) for arm, values in by_arm.items()}
            print(_line((row, *_cells(medians, arms), _spread(by_arm), f"  {self.better[row]}")))

    def save(self) -> Path:
        """Write every sample beside the code; git ignores the file."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{time.strftime('%Y-%m-%dT%H%M%S')}.json"
        found = {
            "machine": self._facts(),
            "better": self.better,
            "goals": self.goals,
            "ratios": [ratio.shown(self.samples.get(ratio.row, {})) for ratio in self.ratios],
            "compared": sorted({ratio.row for ratio in self.ratios}),
            "void": self.void,
            "samples": self.samples,
        }
        path.write_text(json.dumps(found, indent=2) + "\n")
        return path

    def _facts(self) -> dict[str, Any]:
        return {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "processor": _processor(),
            **self.machine,
            "load_after": os.getloadavg()[0],
        }


def _table_of(by_arm: dict[str, list[float]]) -> tuple[str, ...]:
    own = (OURS, *sorted(set(by_arm) - {OURS}))
    return next((arms for arms in TABLES if set(by_arm) <= set(arms)), own)


def _cells(values: dict[str, float], arms: tuple[str, ...]) -> list[str]:
    ours = values.get(OURS)
    cells = [f"{values[arm]:.3g}" if arm in values else "-" for arm in arms]
    return cells + [f"{ours / values[arm]:.2g}" if ours and values.get(arm) else "-" for arm in arms[1:]]


def _spread(by_arm: dict[str, list[float]]) -> str:
    ours = by_arm.get(OURS, [])
    if len(ours) < 2 or not median(ours):
        return "-"
    low, high = (100 * (value / median(ours) - 1) for value in (min(ours), max(ours)))
    return f"{low:+.0f}/{high:+.0f} %"


def _line(cells: tuple[str, ...]) -> str:
    return cells[0].ljust(WIDTHS[0]) + "".join(cell.rjust(WIDTHS[1]) for cell in cells[1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
