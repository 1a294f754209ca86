"""Whether a process waits for its input: read from /proc, on Linux, without touching the process.

/proc/<pid>/task/<tid>/syscall says in which call a thread is blocked and with which arguments. A read of the session's own
stdin or terminal is waiting; so is a poll, select or epoll with it in the set, which is found in the process's memory. Needs
the right to trace (the worker has it over its descendants of the same user); without it the answer is UNKNOWN.
"""

from __future__ import annotations

import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runner.activity import Doing

MOST_PROCESSES: Final = 64
MOST_DESCRIPTORS: Final = 1024
POLLIN: Final = 0x1
CONTROLLING_TERMINAL: Final = os.makedev(5, 0)
"""/dev/tty: whichever terminal is the process's own."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Numbers of the system calls that wait for input, on one kind of machine."""

    reads: frozenset[int]
    polls: frozenset[int]
    selects: frozenset[int]
    epolls: frozenset[int]


CALLS: Final = {
    # read readv splice copy_file_range / poll ppoll / select pselect6 / epoll_wait epoll_pwait epoll_pwait2
    "x86_64": Calls(
        frozenset({0, 19, 275, 326}), frozenset({7, 271}), frozenset({23, 270}), frozenset({232, 281, 441})
    ),
    "aarch64": Calls(frozenset({63, 65, 76, 285}), frozenset({73}), frozenset({72}), frozenset({22, 441})),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a session's input comes from. `pipe`: (device, inode); `terminal`: device number, and its foreground group."""

    pipe: tuple[int, int] | None = None
    terminal: int | None = None
    foreground: int | None = None

    def is_it(self, facts: os.stat_result) -> bool:
        """Whether an open descriptor is this source."""
        if self.terminal is not None:
            return facts.st_rdev in (self.terminal, CONTROLLING_TERMINAL)
        return (facts.st_dev, facts.st_ino) == self.pipe


def look(pid: int, source: Source) -> Doing:
    """Return what a process, or one of its descendants that share its input, is doing about it."""
    calls = CALLS.get(platform.machine())
    if calls is None:
        return Doing.UNKNOWN
    found = {_look_at(each, source, calls) for each in _family(pid) if _in_front(each, source)}
    for doing in (Doing.READING, Doing.WATCHING, Doing.UNKNOWN):
        if doing in found:
            return doing
    return Doing.BUSY


def _family(pid: int) -> list[int]:
    """Return a process and its descendants, nearest first, a bounded number."""
    family = [pid]
    for member in family:
        if len(family) >= MOST_PROCESSES:
            break
        try:
            family += map(int, Path(f"/proc/{member}/task/{member}/children").read_text().split())
        except OSError:
            continue
    return family[:MOST_PROCESSES]


def _in_front(pid: int, source: Source) -> bool:
    """Whether a process may read the terminal now; on pipes everybody may."""
    if source.foreground is None:
        return True
    try:
        return os.getpgid(pid) == source.foreground
    except OSError:
        return False


def _look_at(pid: int, source: Source, calls: Calls) -> Doing:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  (names are all that is needed)
    except OSError:
        return Doing.BUSY
    doings = {_look_at_thread(pid, thread, source, calls) for thread in threads[:MOST_PROCESSES]}
    return next((doing for doing in (Doing.READING, Doing.WATCHING, Doing.UNKNOWN) if doing in doings), Doing.BUSY)


def _look_at_thread(pid: int, thread: str, source: Source, calls: Calls) -> Doing:
    try:
        words = Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()
        if len(words) < 3:  # "running"
            return Doing.BUSY
        number, first, second = int(words[0]), int(words[1], 16), int(words[2], 16)
        if number in calls.reads:
            return Doing.READING if _is_source(pid, first, source) else Doing.BUSY
        watched = _watched(pid, number, (first, second), calls)
        return Doing.WATCHING if any(_is_source(pid, fd, source) for fd in watched) else Doing.BUSY
    except PermissionError:
        return Doing.UNKNOWN
    except (OSError, ValueError, struct.error):
        return Doing.BUSY  # gone, or gone on, while it was looked at


def _watched(pid: int, number: int, arguments: tuple[int, int], calls: Calls) -> list[int]:
    """Return the descriptors whose input a blocked call waits for."""
    first, second = arguments
    if number in calls.polls:
        count = min(second, MOST_DESCRIPTORS)
        entries = struct.iter_unpack("=ihh", _memory(pid, first, 8 * count))
        return [fd for fd, events, _ in entries if fd >= 0 and events & POLLIN]
    if number in calls.selects and second:
        count = min(first, MOST_DESCRIPTORS)
        bits = int.from_bytes(_memory(pid, second, (count + 7) // 8), "little")
        return [fd for fd in range(count) if bits >> fd & 1]
    return _in_epoll(pid, first) if number in calls.epolls else []


def _in_epoll(pid: int, fd: int) -> list[int]:
    watched = []
    for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()[: MOST_DESCRIPTORS + 4]:
        words = line.split()
        if words[:1] == ["tfd:"] and int(words[3], 16) & POLLIN:
            watched.append(int(words[1]))
    return watched


def _memory(pid: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def _is_source(pid: int, fd: int, source: Source) -> bool:
    return source.is_it(Path(f"/proc/{pid}/fd/{fd}").stat())
