"""A plot of each comparison of a saved run: `python -m benchmarks.plots benchmarks/results/<time>.json` writes docs/plots/*.svg.

Bars are medians, the thin lines within them lowest and highest round. Arms more than ten times apart
get a logarithmic scale.
"""

from __future__ import annotations

import json
import math
import re
import sys
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import HIGHER, OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "plots"
WIDTH, LABELS, VALUES, BAR, GAP, TOP = 640, 130, 90, 22, 8, 40
LOGARITHMIC: Final = 10.0
MINE, OTHERS, INK, PALE = "#2563eb", "#9ca3af", "#111827", "#f9fafb"


def plotted(row: str, better: str, by_arm: Mapping[str, Sequence[float]]) -> str:
    """Return a row's plot."""
    medians = {arm: median(values) for arm, values in by_arm.items()}
    least, most = min(map(min, by_arm.values())), max(map(max, by_arm.values()))
    is_logarithmic = least > 0 and max(medians.values()) / min(medians.values()) > LOGARITHMIC
    room = WIDTH - LABELS - VALUES

    def along(value: float) -> float:
        if not is_logarithmic:
            return room * value / most if most else 0.0
        low = math.log10(least) - 0.3
        return room * (math.log10(value) - low) / (math.log10(most) - low)

    order = sorted(medians, key=lambda arm: medians[arm], reverse=better == HIGHER)
    height = TOP + len(order) * (BAR + GAP) + GAP
    said = f"{row} ({better}{', logarithmic' if is_logarithmic else ''})"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    letters = f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {letters} role="img" aria-label="{escape(said)}">',
        f'<rect width="{WIDTH}" height="{height}" fill="{PALE}"/>',
        f'<text x="{GAP}" y="24" font-weight="600">{escape(said)}</text>',
    ]
    for place, arm in enumerate(order):
        y = TOP + place * (BAR + GAP)
        end, middle = LABELS + along(medians[arm]), y + BAR / 2
        colour = MINE if arm == OURS else OTHERS
        low, high = LABELS + along(min(by_arm[arm])), LABELS + along(max(by_arm[arm]))
        lines += [
            f'<text x="{LABELS - GAP}" y="{middle + 5:g}" text-anchor="end">{escape(arm)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{max(end - LABELS, 1):.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{low:.1f} {middle:g}H{high:.1f}" stroke="{INK}"/>',
            f'<text x="{max(end, high) + GAP:.1f}" y="{middle + 5:g}">{medians[arm]:.3g}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def file_name(row: str) -> str:
    """Return where a row's plot is."""
    return re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-") + ".svg"


def compared(found: Mapping[str, Any]) -> list[str]:
    """Return the rows with a goal beside another arm: those are what a run is made for."""
    return [
        row
        for row, by_arm in found["samples"].items()
        if OURS in by_arm and len(by_arm) > 1 and row in found["compared"]
    ]


def main() -> int:
    """Write the plots of a run."""
    found = json.loads(Path(sys.argv[1]).read_text())
    FOLDER.mkdir(exist_ok=True)
    for row in compared(found):
        path = FOLDER / file_name(row)
        path.write_text(plotted(row, found["better"][row], found["samples"][row]))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
