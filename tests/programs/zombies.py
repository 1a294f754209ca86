"""Leaves children behind that ended: its own, which it never waits for, and orphans. Then waits to be told to go."""

import os
import sys
import time

for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
print("left", flush=True)
sys.stdin.readline()
