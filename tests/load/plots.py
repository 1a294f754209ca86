"""Lines over time as SVG, without a library: a page with them needs nothing but a browser."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Points = list[tuple[float, float]]
"""Seconds since the beginning, and a value."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 260, 60, 150, 34, 28
WIDE, HIGH = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
STEPS: Final = 4
COLOURS: Final = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#4b5563", "#db2777", "#65a30d")


def plot(title: str, lines: Mapping[str, Points]) -> str:
    """Return some named lines in one picture, from zero on."""
    drawn = {name: points for name, points in lines.items() if points}
    seconds = max((at for points in drawn.values() for at, _ in points), default=1.0) or 1.0
    most = max((value for points in drawn.values() for _, value in points), default=1.0) or 1.0
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12" role="img">',
            f'<text x="{LEFT}" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
            *_axes(seconds, most),
            *(_line(number, name, points, seconds, most) for number, (name, points) in enumerate(drawn.items())),
            "</svg>",
        ]
    )


def _axes(seconds: float, most: float) -> Sequence[str]:
    parts = []
    for step in range(STEPS + 1):
        part = step / STEPS
        x, y = LEFT + WIDE * part, TOP + HIGH * (1 - part)
        parts += [
            f'<path d="M{LEFT} {y:.1f}h{WIDE}" stroke="#e5e7eb"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * part:.3g}</text>',
            f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{seconds * part:.0f} s</text>',
        ]
    return parts


def _line(number: int, name: str, points: Points, seconds: float, most: float) -> str:
    colour = COLOURS[number % len(COLOURS)]
    places = " ".join(f"{LEFT + WIDE * at / seconds:.1f},{TOP + HIGH * (1 - value / most):.1f}" for at, value in points)
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<text x="{LEFT + WIDE + 10}" y="{TOP + 14 + 16 * number}" fill="{colour}">{escape(name)}</text>'
    )
