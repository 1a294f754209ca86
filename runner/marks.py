"""What marks a process as a session's, and finding what carries a mark. Linux only; elsewhere nothing is found.

Two signs, both inherited: an RLIMIT_RTTIME of 2^40 + tag, which survives `env -i`, setsid and double forks; and
JELMORE_SESSION_ID in the environment. A tag is 24 bits of the worker's incarnation and 16 bits of a counter.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TAG_BASE: Final = 1 << 40
PR_SET_CHILD_SUBREAPER: Final = 36
ROUND_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Found:
    """A marked process. `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    started: int
    tag: int

    @property
    def incarnation(self) -> int:
        """Return the 24 bits of the worker incarnation whose session it was."""
        return self.tag >> 16


def become_subreaper() -> None:
    """Have this process inherit the keeper's children, should the keeper die."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tag_of(pid: int) -> int | None:
    """Return the tag a process carries, or None."""
    try:
        limit = resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except PermissionError:
        limit = _limit_of_another(pid) if os.geteuid() == 0 else -1
    except (OSError, AttributeError):
        return None
    return limit - TAG_BASE if limit >= TAG_BASE else None


def _limit_of_another(pid: int) -> int:
    """Read the limit of another user's process (SESSION_USER): in a container root may lack the right to ask for it."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return -1  # gone
    hard = next((line.split()[-2] for line in lines if line.startswith("Max realtime timeout")), "")
    return int(hard) if hard.isdigit() else -1


def started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def find(wanted: Callable[[Found], bool]) -> list[Found]:
    """Return the marked processes of this machine that `wanted` accepts."""
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208  (a thousand Path objects for nothing)
            if name.isdigit() and (tag := tag_of(int(name))) is not None and (since := started(int(name))) is not None:
                process = Found(int(name), since, tag)
                if wanted(process):
                    found.append(process)
    return found


def kill(process: Found) -> None:
    """Kill a process that was found, unless its pid has passed on to another meanwhile."""
    with suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            if tag_of(process.pid) == process.tag and started(process.pid) == process.started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def sweep(wanted: Callable[[Found], bool], *, limit_seconds: float = 10.0) -> int:
    """Kill every marked process that `wanted` accepts, until none is left; return how many there were."""
    killed: set[Found] = set()
    give_up = time.monotonic() + limit_seconds
    while (found := find(wanted)) and time.monotonic() < give_up:
        for process in found:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGSTOP)
        for process in found:
            kill(process)
        killed.update(found)
        time.sleep(ROUND_SECONDS)
    return len(killed)
