"""One measure of one arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Step:
    """A measure: its row, which way is better, the arm, and what measures it."""

    name: str
    better: str
    arm: str
    measure: Callable[[], dict[str, float] | float]
