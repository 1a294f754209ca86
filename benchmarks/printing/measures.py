"""What is measured of printing: the way of a line, floods, input that comes back, and what a thousand sessions cost."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from benchmarks.printing.readers import read_all
from benchmarks.samples import LINE_BYTES, Void, delays, flooding, quantiles

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.printing.arms import Printer
    from benchmarks.printing.readers import Line

FLOOD_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 60.0


def on_the_way(printer: Printer, stamps: Path, count: int, lines: int, rate: int) -> dict[str, float]:
    """Measure `write()` to the client's reading: so many programs at once, each so many lines a second. Milliseconds.

    Counted are lines that are printed while all programs run.
    """
    with printer.opened((str(stamps), str(lines), str(rate)), count) as readers:
        read_all(readers, lines / rate + SETTLE_SECONDS)
        found = [reader.lines() for reader in readers]
    whole = [list(zip(each, delays(each, lines), strict=True)) for each in found]
    first, last = max(_stamp(each[0]) for each in found), min(_stamp(each[-1]) for each in found)
    counted = [delay for each in whole for line, delay in each if first <= _stamp(line) <= last]
    if len(counted) < lines:
        raise Void(f"only {len(counted)} lines were printed while all programs ran")
    return quantiles(counted)


def _stamp(line: Line) -> int:
    return int(line[0].split()[1])


def flood(printer: Printer, count: int, lines: int) -> float:
    """Measure so many floods at once, from the first `write()` to the last line's reading. Lines a second, all told."""
    with printer.opened(flooding(lines), count) as readers:
        read_all(readers, FLOOD_SECONDS)
        found = [reader.lines() for reader in readers]
    right = _numbered(lines)
    for each in found:
        if hashlib.sha256("".join(f"{line}\n" for line, _ in each[1:]).encode()).digest() != right:
            raise Void(f"{len(each)} lines came of {lines + 1}, or others than were printed")
    begin, end = min(int(each[0][0]) for each in found), max(each[-1][1] for each in found)
    return float(count * (lines + 1) / ((end - begin) / 1e9))


def _numbered(lines: int) -> bytes:
    whole = hashlib.sha256()
    for number in range(1, lines + 1):
        whole.update(b"%0*d\n" % (LINE_BYTES - 1, number))
    return whole.digest()
