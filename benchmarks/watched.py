"""The worker as it always is, and beside it a greenlet that notes how late the loop wakes it: `python -m benchmarks.watched FILE`.

Two hundred looks a second, as pairs of doubles: the monotonic clock's seconds, and the milliseconds it was late.
"""

# ruff: noqa: I001
from __future__ import annotations

from tasks import worker  # first: it patches

import sys
import time
from array import array
from pathlib import Path

import gevent

TICK_SECONDS = 0.005
KEPT = 100


def watch(path: Path) -> None:
    """Look for ever."""
    with path.open("ab", buffering=0) as file:
        notes = array("d")
        while True:
            before = time.monotonic()
            gevent.sleep(TICK_SECONDS)
            now = time.monotonic()
            notes.extend((now, max(0.0, now - before - TICK_SECONDS) * 1000))
            if len(notes) >= 2 * KEPT:
                file.write(notes.tobytes())
                del notes[:]


if __name__ == "__main__":
    gevent.spawn(watch, Path(sys.argv[1]))
    sys.exit(worker.main())
