"""What a load run found: verdicts in words, and a page of them with a table and plots."""

from __future__ import annotations

import csv
import os
import platform
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.load.plots import plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.load.plots import Points

Row = dict[str, str]

ALL: Final = "Aggregated"
"""Locust's name for all names together."""
WAITS: Final = ("run", "first output", "input comes back", "create", "come again")
OURS: Final = ("web", "worker", "beat")
GROWTH: Final = 1.10
"""What a process may have in the last third of a run of what it had in the middle one, with SLACK_MIB on top."""
SLACK_MIB: Final = 8.0
FALL: Final = 0.75
"""What the last third must do of the middle one's work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process's own memory at a time, seconds since 1970."""

    name: str
    at: float
    mib: float


@dataclass(frozen=True)
class Run:
    """What was measured. `history`: one row a second and name, as locust writes it; `totals`: one row a name."""

    history: Sequence[Row]
    totals: Sequence[Row]
    failures: Sequence[Row]
    exceptions: Sequence[Row]
    """What the users themselves stumbled over; failures are the service's."""
    memory: Sequence[Sample]
    users: int
    seconds: int

    @classmethod
    def read(cls, prefix: Path, memory: Sequence[Sample], *, users: int, seconds: int) -> Run:
        """Read what locust wrote."""
        history, totals, failures, exceptions = (
            _rows(Path(f"{prefix}_{what}.csv")) for what in ("stats_history", "stats", "failures", "exceptions")
        )
        return cls(history, totals, failures, exceptions, memory, users, seconds)

    # What there is.

    @cached_property
    def began(self) -> float:
        """Return when the run began, seconds since 1970."""
        return min(float(row["Timestamp"]) for row in self.history)

    @property
    def names(self) -> list[str]:
        """Return the names of what users do."""
        return [row["Name"] for row in self.totals if row["Name"] != ALL]

    @property
    def whole(self) -> Row:
        """Return the totals of all names together."""
        return next(row for row in self.totals if row["Name"] == ALL)

    def over_time(self, name: str, column: str) -> Points:
        """Return a column of a name over the seconds of the run."""
        rows = [row for row in self.history if row["Name"] == name and row[column] not in ("", "N/A")]
        return [(float(row["Timestamp"]) - self.began, float(row[column])) for row in rows]

    def memory_of(self, name: str) -> Points:
        """Return a process's memory over the seconds of the run."""
        points = [(sample.at - self.began, sample.mib) for sample in self.memory if sample.name == name]
        return [(at, mib) for at, mib in points if at >= 0]

    # What it means.

    @property
    def failed(self) -> int:
        """Return how many things were not as they should be."""
        return int(self.whole["Failure Count"]) + sum(int(row["Count"]) for row in self.exceptions)

    @property
    def has_fallen(self) -> bool:
        """Whether less was done in the end than in the middle."""
        before, after = thirds(self.over_time(ALL, "Requests/s"))
        return after < before * FALL

    @property
    def growing(self) -> list[str]:
        """Return the processes of the service whose memory grows."""
        found = {name: thirds(self.memory_of(name)) for name in OURS}
        return [name for name, (before, after) in found.items() if after > before * GROWTH + SLACK_MIB]

    @property
    def is_good(self) -> bool:
        """Whether all went well, as fast and as small in the end as in the middle."""
        return not (self.failed or self.growing or self.has_fallen)

    def verdicts(self) -> list[str]:
        """Say what came of it."""
        done = f"{self.whole['Request Count']} requests by {self.users} users in {self.seconds} s"
        said = [f"{done}, {float(self.whole['Requests/s']):.0f} a second; {self.failed} failed."]
        said += [f"  {row['Occurrences']} x {row['Name']}: {row['Error'][:200]}" for row in self.failures]
        said += [f"  {row['Count']} x {row['Message'][:200]}" for row in self.exceptions]
        if self.has_fallen:
            said.append("Throughput fell towards the end.")
        for name in OURS:
            if points := self.memory_of(name):
                before, after = thirds(points)
                how = "grows" if name in self.growing else "is flat"
                said.append(f"Memory of {name} {how}: {before:.0f} MiB in the middle third, {after:.0f} in the last.")
        return said


def thirds(points: Points) -> tuple[float, float]:
    """Return the medians of the middle and of the last third of some points."""
    values = [value for _, value in points]
    third = len(values) // 3
    return (median(values[third : 2 * third]), median(values[2 * third :])) if third else (0.0, 0.0)


def _rows(path: Path) -> list[Row]:
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


# The page.

COLUMNS: Final = ("Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%", "100%")
PAGE: Final = """<!doctype html>
<meta charset="utf-8"><title>Jelmore under load</title>
<style>body {{ font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 900px; color: #111827 }}
table {{ border-collapse: collapse }} td, th {{ padding: 2px 10px; text-align: right }} td:first-child {{ text-align: left }}
tr:nth-child(even) {{ background: #f3f4f6 }} svg {{ display: block; margin: 1.5em 0; max-width: 100% }}</style>
<h1>Jelmore under load</h1>
<pre>{verdicts}</pre>
<p>{cores} cores, {system}; the users ran on it, too. Milliseconds are those of the last ten seconds at each moment.</p>
{table}
{plots}
"""


def write(run: Run, out: Path) -> Path:
    """Write the page; return where it is."""
    plots = [
        plot("Requests a second", {name: run.over_time(name, "Requests/s") for name in (ALL, *run.names)}),
        plot("Failures a second", {ALL: run.over_time(ALL, "Failures/s")}),
        *(plot(f"Milliseconds: {name}", percentiles(run, name)) for name in WAITS if name in run.names),
        plot("Memory of its own, MiB", {name: run.memory_of(name) for name in _measured(run)}),
        plot("Users", {"users": run.over_time(ALL, "User Count")}),
    ]
    page = out / "report.html"
    verdicts = escape("\n".join(run.verdicts()))
    system = f"{platform.system()} {platform.release()}"
    page.write_text(
        PAGE.format(
            verdicts=verdicts, cores=os.cpu_count(), system=system, table=_table(run), plots="\n".join(plots)
        )
    )  # fmt: skip
    return page


def percentiles(run: Run, name: str) -> dict[str, Points]:
    """Return how long something took, over the seconds of the run."""
    return {share: run.over_time(name, share) for share in ("50%", "95%", "99%")}


def _measured(run: Run) -> list[str]:
    return [*dict.fromkeys(sample.name for sample in run.memory)]


def _table(run: Run) -> str:
    head = "".join(f"<th>{column}</th>" for column in ("", *COLUMNS))
    rows = ("".join(f"<td>{escape(_short(row[column]))}</td>" for column in ("Name", *COLUMNS)) for row in run.totals)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table><p>Times in milliseconds.</p>"


def _short(text: str) -> str:
    return text[: text.index(".") + 2] if "." in text else text
