"""How often something may be done, as settings spell it: "20/minute". Counting is the web tier's business."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

RULES: Final = ("global", "authentication", "session_creation", "streaming", "websocket")
UNITS: Final = MappingProxyType({"second": 1, "minute": 60, "hour": 3600, "day": 86400})
SPELLING: Final = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in each window."""

    count: int
    unit: str

    @property
    def window_seconds(self) -> int:
        """Return the window's length."""
        return UNITS[self.unit]

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def parse_rate(text: Any) -> Rate | None:
    """Parse "20/minute"; empty means no limit. Raises ValueError."""
    if text is None or text == "" or isinstance(text, Rate):
        return text or None
    found = SPELLING.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("is not of the form 20/minute (second, minute, hour or day)")
    return Rate(int(found[1]), found[2])
