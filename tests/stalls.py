"""How long a worker's loop stood still by its own log, less the time it waited for a processor: that is the machine's fault.

The kernel counts for each process how long it was ready to run and did not (/proc/<pid>/schedstat). A loop that somebody
blocks sleeps, or computes: neither is waiting.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.member import Member

STALL: Final = "the hub stood still"
LOOK_SECONDS: Final = 0.05
BILLION: Final = 1e9


class Stalls:
    """What one worker says of its loop from here on."""

    def __init__(self, worker: Member) -> None:
        self._worker = worker
        self._said_before = len(worker.lines())
        self._looks: list[tuple[float, float]] = []
        """(wall clock, seconds waited for a processor so far)."""
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            while not self._over.wait(LOOK_SECONDS):
                waited = int(Path(f"/proc/{self._worker.pid}/schedstat").read_text().split()[1]) / BILLION
                self._looks.append((time.time(), waited))
        except OSError:
            pass  # the worker is gone

    def _waited(self, begin: float, end: float) -> float:
        """Return how long the worker waited for a processor around that time."""
        times = [at for at, _ in self._looks]
        first, last = bisect_right(times, begin) - 1, bisect_left(times, end)
        if not self._looks:
            return 0.0
        return self._looks[min(last, len(times) - 1)][1] - self._looks[max(first, 0)][1]

    def longer_than(self, seconds: float) -> list[str]:
        """Return what cannot be explained by a busy machine."""
        self._over.set()
        found = []
        for line in self._worker.lines()[self._said_before :]:
            if line["event"] == STALL:
                end = datetime.fromisoformat(line["timestamp"]).timestamp()
                waited = self._waited(end - line["seconds"], end)
                if line["seconds"] - waited > seconds:
                    found.append(
                        f"{line['seconds']} s until {line['timestamp']}, {waited:.3f} s of them without a processor"
                    )
        return found
