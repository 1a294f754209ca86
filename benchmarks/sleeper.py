"""Does nothing but sleep 5 ms, and notes how late it was woken: how much of a loop's lateness is the machine's own.

Notes as `watched` writes them: pairs of doubles, the monotonic clock's seconds and the milliseconds it was late.
"""

import sys
import time
from array import array

TICK_SECONDS = 0.005

with open(sys.argv[1], "wb", buffering=0) as file:  # noqa: PTH123  (no imports that are not needed)
    while True:
        notes = array("d")
        for _ in range(100):
            before = time.monotonic()
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            notes.extend((now, max(0.0, now - before - TICK_SECONDS) * 1000))
        file.write(notes.tobytes())
