"""What is asked of every arm alike: the programs that are run, and the laws their output must keep.

A run with a line missing, repeated or out of order is void. Times are monotonic nanoseconds of one machine.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LINE_BYTES: Final = 100
HERE: Final = Path(__file__).parent
PROGRAM: Final = "/bin/true"
"""What is started where only the starting counts."""


class Void(Exception):
    """The arm lost, repeated or reordered something, or did not get there in time."""


def stamping(count: int) -> list[str]:
    """Return the command that prints stamped lines, 100 a second."""
    return [sys.executable, str(HERE / "stamps.py"), str(count)]


def flooding(lines: int) -> list[str]:
    """Return the command that prints a stamped line and then numbered ones at once."""
    return [sys.executable, str(HERE / "flood.py"), str(lines)]


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(values)
    return {"p50": median(ordered), "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]}


def delays(lines: Iterable[tuple[str, int]], count: int) -> list[float]:
    """Return milliseconds from each line's stamp to its reading; the numbers must be 0, 1, 2 … and all there."""
    found = []
    for expected, (line, at) in enumerate(lines):
        number, stamp = line.split()
        if int(number) != expected:
            raise Void(f"line {number} came where {expected} was due")
        found.append((at - int(stamp)) / 1e6)
    if len(found) != count:
        raise Void(f"{len(found)} of {count} lines came")
    return found


def megabytes_per_second(output: bytes, lines: int, end: int) -> float:
    """Return the flood's rate, from the first `write()` until `end`; every byte must be right."""
    whole = hashlib.sha256()
    for number in range(1, lines + 1):
        whole.update(b"%099d\n" % number)
    if hashlib.sha256(output[LINE_BYTES:]).digest() != whole.digest():
        raise Void(f"{output.count(10)} lines came of {lines + 1}, or others than were printed")
    return len(output) / 1e6 / ((end - int(output[:LINE_BYTES])) / 1e9)
