"""What is known of a process after its parent died: its pid and when it began.

A pid alone says nothing: numbers are used again, and a process of somebody else must never be ended. So
every process that is started is noted with its start time, and a leftover is ended only if both still
agree. Starting processes is `children.py`; the noting is `home.py`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LINUX: Final = sys.platform.startswith("linux")
PR_SET_PDEATHSIG: Final = 1
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, recognisable for as long as the machine runs. It leads a process group of its own."""

    name: str
    pid: int
    started: str
    stop_signal: int

    @classmethod
    def of(cls, name: str, pid: int, stop_signal: int) -> Identity:
        return cls(name, pid, start_mark(pid) or "", stop_signal)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_running(self) -> bool:
        return bool(self.started) and start_mark(self.pid) == self.started


def start_mark(pid: int) -> str | None:
    """When the process began, as text that no other process of that number ever has; None if it is gone."""
    return _start_mark_linux(pid) if LINUX else _start_mark_elsewhere(pid)


def _start_mark_linux(pid: int) -> str | None:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if after_name[0] in b"ZX":  # dead already, only not yet reaped
        return None
    # Ticks since boot (field 22): the boot id tells the same tick of another boot apart.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{after_name[19].decode()}"


def _start_mark_elsewhere(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 - ps stands in different places
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return answer[1].strip() if len(answer) == 2 and not answer[0].startswith("Z") else None


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that the process leads."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it is gone, or (macOS) a zombie


def end_all(identities: Iterable[Identity], grace_seconds: float) -> list[Identity]:
    """End those of the processes that still run, and return them: first asked, then killed."""
    left = [identity for identity in identities if identity.is_running()]
    for identity in left:
        signal_group(identity.pid, signal.SIGCONT)  # a stopped process does not hear the next signal
        signal_group(identity.pid, identity.stop_signal)
    if not _gone_within(left, grace_seconds):
        for identity in left:
            if identity.is_running():
                signal_group(identity.pid, signal.SIGKILL)
        _gone_within(left, 2)
    return left


def _gone_within(identities: list[Identity], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(identity.is_running() for identity in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def dies_with_parent(number: int) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends the signal when the parent dies, even of kill -9 (Linux only).

    The signal follows the *thread* that started the process: start processes from the main thread.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if LINUX else None

    def arrange() -> None:
        if prctl is None:
            return
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl: nobody will tell us any more
            os._exit(1)

    return arrange
