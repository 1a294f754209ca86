"""Forks as fast as it can, in every process it has, until there are as many as the first argument says."""

import os
import sys
import time

tokens, more = os.pipe()
os.set_blocking(tokens, False)
os.write(more, b"x" * int(sys.argv[1]))
print("forking", flush=True)
try:
    while os.read(tokens, 1):  # a token for each fork of the whole family
        try:
            os.fork()
        except OSError:
            time.sleep(0.1)
except BlockingIOError:
    pass
time.sleep(1000)
