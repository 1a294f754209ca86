"""How long a process's loop stood still by its own log, less the time it waited for a processor: that is the machine's fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.vital import STALL_SECONDS, STALLED

if TYPE_CHECKING:
    from collections.abc import Iterable


def stalls(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a log tells of stalls that cannot be explained by a busy machine."""
    told = [line for line in lines if line["event"] == STALLED]
    return [line for line in told if line["seconds"] - line["without_processor"] > STALL_SECONDS]
