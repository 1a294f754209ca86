"""Prints numbered lines with the clock's reading inside, a hundred a second: the program whose output is timed."""

import sys
import time

time.sleep(0.7)  # pub/sub replays nothing: the follower must be there first
for number in range(int(sys.argv[1])):
    sys.stdout.write(f"{number} {time.monotonic_ns()}\n")
    sys.stdout.flush()
    time.sleep(0.01)
