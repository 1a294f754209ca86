"""Takes memory by the MiB, up to as many as the first argument says, and touches it; says how it ended."""

import sys

taken = []
try:
    for number in range(int(sys.argv[1])):
        taken.append(bytearray(b"x" * 1024 * 1024))
        if number == 16:
            print("taking", flush=True)
except MemoryError:
    print("no more memory", flush=True)
    sys.exit(3)
print("took it all", flush=True)
