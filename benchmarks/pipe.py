"""The floor: one Python process that reads its child over a pipe. Nothing is kept, nobody else can follow."""

from __future__ import annotations

import subprocess
import time

from benchmarks.samples import PROGRAM, Void, delays, flooding, megabytes_per_second, quantiles, stamping

READ_BYTES = 65536


def latency(count: int) -> dict[str, float]:
    """Measure `write()` to reading. Milliseconds."""
    with subprocess.Popen(stamping(count), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return quantiles(delays([(line, time.monotonic_ns()) for line in process.stdout], count))


def throughput(lines: int) -> float:
    """Measure a flood. MB/s."""
    with subprocess.Popen(flooding(lines), stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        chunks = []
        while chunk := process.stdout.read(READ_BYTES):
            chunks.append(chunk)
        return megabytes_per_second(b"".join(chunks), lines, time.monotonic_ns())


def spawning(count: int) -> float:
    """Measure starting a process and waiting for its end, one after the other. Processes a second."""
    start = time.monotonic()
    for _ in range(count):
        subprocess.run([PROGRAM], check=True)
    return count / (time.monotonic() - start)


def round_trip(count: int) -> dict[str, float]:
    """Measure writing to `cat` until its echo is read. Milliseconds."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        times = []
        for number in range(count):
            line = b"echo-%d\n" % number
            start = time.monotonic_ns()
            process.stdin.write(line)
            echo = process.stdout.read(READ_BYTES)
            times.append((time.monotonic_ns() - start) / 1e6)
            if echo != line:
                raise Void(f"{echo!r} came where {line!r} was due")
        process.stdin.close()
    return quantiles(times)
