"""What Linux tells of processes."""

from __future__ import annotations

from pathlib import Path


def worker_of(pid: int) -> int:
    """Return gunicorn's first worker, by its master."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def memory_kib(pid: int) -> int:
    """Return the memory a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")
