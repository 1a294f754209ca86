"""What a running process is doing - working, waiting for input, idle - decided without looking at it.

Whoever holds the process tells of output and input, asks when it is worth looking into /proc (`look_due`), and says what it
saw. No I/O; `now` is monotonic seconds.

A process that sits in a read of its input waits for input: seen twice, with nothing in between, it is said. One that merely
watches its input (poll, select, epoll), as full-screen programs and servers do, must be quiet for a while as well. Where
/proc cannot tell, a prompt - output that ends in the middle of a line - and quiet time stand in for it.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from models.lifecycle import Status

FIRST_LOOK_SECONDS: Final = 0.1
"""Quiet for that long, it is looked at; then after twice the time, and again, up to LONGEST_PAUSE_SECONDS."""
LONGEST_PAUSE_SECONDS: Final = 10.0
WATCHING_SECONDS: Final = 0.5
PROMPT_SECONDS: Final = 1.0
RECHECK_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 0.25
"""Between two changes: four a second, however fast a program asks and is answered."""


class Doing(Enum):
    """What a look at a process showed."""

    READING = auto()
    """Blocked in a read of the session's input, which is empty."""
    WATCHING = auto()
    """Waits for its input among other things."""
    BUSY = auto()
    """Does neither."""
    UNKNOWN = auto()
    """It cannot be seen."""


class Activity:
    """The status of one process between its start and the wish that it end."""

    def __init__(self, idle_after_seconds: float, now: float) -> None:
        self._idle_after = idle_after_seconds
        self._stirred_at = now
        self._printed_at = now
        self._at_prompt = False
        self._seen = Doing.BUSY
        self._waits = False
        self._look_at = now + FIRST_LOOK_SECONDS
        self._pause = FIRST_LOOK_SECONDS
        self._status = Status.ACTIVE
        self._changed_at = now

    def printed(self, now: float, *, at_prompt: bool) -> None:
        """It printed something; `at_prompt`: the last line has no end."""
        self._printed_at = now
        self._at_prompt = at_prompt
        self._stir(now)

    def given_input(self, now: float) -> None:
        """Input was written to it."""
        # An idle session that is spoken to is active again for as long as one that prints.
        self._printed_at = now
        self._stir(now)

    def _stir(self, now: float) -> None:
        self._stirred_at = now
        self._waits = False
        self._seen = Doing.BUSY
        self._pause = FIRST_LOOK_SECONDS
        self._look_at = now + FIRST_LOOK_SECONDS

    def look_due(self, now: float) -> bool:
        """Whether a look at the process may change anything."""
        return now >= self._look_at

    def saw(self, doing: Doing, now: float) -> None:
        """Take in what a look showed."""
        waited, self._waits = self._waits, self._seems_to_wait(doing, now - self._stirred_at)
        self._seen = doing
        if waited and not self._waits:  # it went on by itself, and what it does now began now
            self._printed_at = now
            self._stir(now)
            return
        self._pause = min(max(self._pause * 2, RECHECK_SECONDS if self._waits else 0), LONGEST_PAUSE_SECONDS)
        self._look_at = now + (FIRST_LOOK_SECONDS if doing is Doing.READING and not self._waits else self._pause)

    def _seems_to_wait(self, doing: Doing, quiet: float) -> bool:
        match doing:
            case Doing.READING:
                return self._waits or self._seen is Doing.READING
            case Doing.WATCHING:
                return quiet >= WATCHING_SECONDS
            case Doing.UNKNOWN:
                return self._at_prompt and quiet >= PROMPT_SECONDS
            case Doing.BUSY:
                return False

    def change(self, now: float) -> Status | None:
        """Return the status it has come to, if that is news and may be told yet."""
        status = self._is(now)
        if status is self._status or now - self._changed_at < LEAST_SECONDS:
            return None
        self._status = status
        self._changed_at = now
        return status

    def _is(self, now: float) -> Status:
        if self._waits:
            return Status.WAITING_INPUT
        return Status.IDLE if now - self._printed_at >= self._idle_after else Status.ACTIVE
