"""What a load run found: verdicts in words, and a page with plots that needs nothing but a browser."""

from __future__ import annotations

import csv
import os
import platform
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 260, 60, 150, 34, 28
COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#4b5563", "#db2777", "#65a30d")
ALL: Final = "Aggregated"
OURS: Final = ("web", "worker", "beat")
GROWTH: Final = 1.10
"""What the last third of a run may have more than the middle one, with SLACK_MIB on top: caches fill up."""
SLACK_MIB: Final = 8.0
FALL: Final = 0.75
"""What the last third must do of the middle one's work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process's own memory at a time, seconds since 1970."""

    name: str
    at: float
    mib: float


Points = list[tuple[float, float]]


@dataclass
class Run:
    """What was measured. `history`: one row a second and name, as locust writes it; `totals`: one row a name."""

    history: list[dict[str, str]]
    totals: list[dict[str, str]]
    failures: list[dict[str, str]]
    memory: Sequence[Sample]
    users: int
    seconds: int
    machine: str = field(default_factory=lambda: f"{os.cpu_count()} cores, {platform.system()} {platform.release()}")

    @classmethod
    def read(cls, prefix: Path, memory: Sequence[Sample], *, users: int, seconds: int) -> Run:
        """Read what locust wrote."""
        history, totals, failures = (
            _rows(Path(f"{prefix}_{what}.csv")) for what in ("stats_history", "stats", "failures")
        )
        return cls(history, totals, failures, memory, users, seconds)

    @property
    def began(self) -> float:
        return min(float(row["Timestamp"]) for row in self.history)

    def names(self) -> list[str]:
        return [row["Name"] for row in self.totals if row["Name"] != ALL]

    def over_time(self, name: str, column: str) -> Points:
        """Return a column of a name over the seconds of the run."""
        rows = [row for row in self.history if row["Name"] == name and row[column] not in ("", "N/A")]
        return [(float(row["Timestamp"]) - self.began, float(row[column])) for row in rows]

    def memory_of(self, name: str) -> Points:
        return [(sample.at - self.began, sample.mib) for sample in self.memory if sample.name == name]

    # Verdicts.

    def failed(self) -> int:
        return sum(int(row["Failure Count"]) for row in self.totals if row["Name"] == ALL)

    def grown(self) -> dict[str, tuple[float, float]]:
        """Return the processes of the service whose memory grows: MiB in the middle third, and in the last."""
        found = {name: thirds(self.memory_of(name)) for name in OURS if self.memory_of(name)}
        return {name: (before, after) for name, (before, after) in found.items() if after > before * GROWTH + SLACK_MIB}

    def has_fallen(self) -> bool:
        """Whether less was done in the end than in the middle."""
        before, after = thirds(self.over_time(ALL, "Requests/s"))
        return after < before * FALL

    def is_good(self) -> bool:
        return not self.failed() and not self.grown() and not self.has_fallen()

    def verdicts(self) -> list[str]:
        """Say what came of it."""
        whole = next(row for row in self.totals if row["Name"] == ALL)
        said = [f"{whole['Request Count']} requests by {self.users} users in {self.seconds} s, {self.failed()} failed."]
        said += [f"  {row['Occurrences']} x {row['Name']}: {row['Error'][:200]}" for row in self.failures]
        if self.has_fallen():
            said.append("Throughput fell towards the end.")
        for name in OURS:
            if points := self.memory_of(name):
                before, after = thirds(points)
                how = "grows" if name in self.grown() else "is flat"
                said.append(f"Memory of {name} {how}: {before:.0f} MiB in the middle third, {after:.0f} in the last.")
        return said


def thirds(points: Points) -> tuple[float, float]:
    """Return the medians of the middle and of the last third of some points."""
    values = [value for _, value in points]
    third = len(values) // 3
    return (median(values[third : 2 * third]), median(values[2 * third :])) if third else (0.0, 0.0)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


# The page.


def write(run: Run, out: Path) -> Path:
    """Write the page; return where it is."""
    waits = ("run", "first output", "input comes back", "create", "come again")
    plots = [
        plot("Requests a second", {name: run.over_time(name, "Requests/s") for name in (ALL, *run.names())}),
        plot("Failures a second", {ALL: run.over_time(ALL, "Failures/s")}),
        *(
            plot(
                f"Milliseconds, {name} (of the last ten seconds)",
                {c: run.over_time(name, c) for c in ("50%", "95%", "99%")},
            )
            for name in waits
            if name in run.names()
        ),
        plot(
            "Memory of its own, MiB", {name: run.memory_of(name) for name in dict.fromkeys(s.name for s in run.memory)}
        ),
        plot("Users", {"users": run.over_time(ALL, "User Count")}),
    ]
    page = out / "report.html"
    page.write_text(
        _PAGE.format(
            verdicts=escape("\n".join(run.verdicts())), machine=run.machine, table=_table(run), plots="\n".join(plots)
        )
    )
    return page


_PAGE: Final = """<!doctype html>
<meta charset="utf-8"><title>Jelmore under load</title>
<style>body {{ font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 900px; color: #111827 }}
table {{ border-collapse: collapse }} td, th {{ padding: 2px 10px; text-align: right }} td:first-child {{ text-align: left }}
tr:nth-child(even) {{ background: #f3f4f6 }} svg {{ display: block; margin: 1.5em 0; max-width: 100% }}</style>
<h1>Jelmore under load</h1><pre>{verdicts}</pre><p>{machine}; the users ran on it, too.</p>
{table}
{plots}
"""
COLUMNS: Final = ("Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%", "100%")


def _table(run: Run) -> str:
    head = "".join(f"<th>{column}</th>" for column in ("", *COLUMNS))
    rows = ("".join(f"<td>{escape(_short(row[column]))}</td>" for column in ("Name", *COLUMNS)) for row in run.totals)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table><p>Times in milliseconds.</p>"


def _short(text: str) -> str:
    return text[: text.index(".") + 2] if "." in text else text


def plot(title: str, lines: Mapping[str, Points]) -> str:
    """Return lines over time as SVG."""
    drawn = {name: points for name, points in lines.items() if points}
    across = max((at for points in drawn.values() for at, _ in points), default=1.0) or 1.0
    most = max((value for points in drawn.values() for _, value in points), default=0.0) or 1.0
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(at: float, value: float) -> str:
        return f"{LEFT + wide * at / across:.1f},{TOP + high * (1 - value / most):.1f}"

    parts: list[Any] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="12" role="img">',
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for step in range(5):
        y, value = TOP + high * (1 - step / 4), most * step / 4
        parts.append(f'<path d="M{LEFT} {y:.1f}h{wide}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        parts.append(
            f'<text x="{LEFT + wide * step / 4:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{across * step / 4:.0f} s</text>'
        )
    for number, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(at, value) for at, value in points if at >= 0)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + wide + 10}" y="{TOP + 14 + 16 * number}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])
