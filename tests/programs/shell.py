"""Scripts that stand in for what people run: each behaves badly in one way. They run under `/bin/sh -c`.

Sleepers sleep long instead of looping: two dozen sessions that fork five times a second would measure the machine.
"""

from __future__ import annotations

from typing import Final

FIRST_LINES: Final = b"".join(b"line %d\n" % number for number in range(1, 21))

STUBBORN: Final = """
trap '' TERM
(setsid sh -c '(sleep 1000 &)' &)
(env -i setsid sleep 1000 &)
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo line $i; done
sleep 1000
"""
"""Prints FIRST_LINES. No TERM ends it (what is ignored stays ignored in children), and of its two daemons, one of a double
fork, one has lost its environment."""
STUBBORN_PROCESSES: Final = 4

# Some shells say "Terminated" on stderr when their sleep is.
STEADY: Final = "exec 2>/dev/null; i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; sleep {pause}; done"
ENDLESS: Final = "exec 2>/dev/null; i=0; while :; do i=$((i+1)); echo line $i; sleep {pause}; done"
ANSWERS: Final = "echo ready; while read line; do echo got $line; done"


def steady(count: int, pause: float) -> str:
    """Print numbered lines for about count * pause seconds."""
    return STEADY.format(count=count, pause=pause)


def endless(pause: float) -> str:
    """Print numbered lines until it is ended."""
    return ENDLESS.format(pause=pause)


def lines(count: int) -> bytes:
    """Return what `steady` prints."""
    return b"".join(b"line %d\n" % number for number in range(1, count + 1))


def is_numbered_lines(printed: bytes) -> bool:
    """Whether this is what `endless` prints, up to some byte."""
    return (lines(printed.count(b"\n") + 1) + b"line")[: len(printed)] == printed
