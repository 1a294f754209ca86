"""Prints one stamped line, then as many numbered lines of 100 bytes as asked for, as fast as they are taken."""

import sys
import time

body = b"".join(b"%099d\n" % number for number in range(1, int(sys.argv[1]) + 1))
time.sleep(0.7)  # pub/sub replays nothing: the follower must be there first
sys.stdout.buffer.write(b"%099d\n" % time.monotonic_ns())
sys.stdout.buffer.write(body)
