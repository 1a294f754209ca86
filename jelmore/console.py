"""Where all lines end up: our own, and those of the processes, each with its name before it."""

from __future__ import annotations

import sys
import threading
from typing import IO, Final

COLOURS: Final = (36, 33, 32, 35, 34, 96, 93)


class Console:
    """One line at a time, from any thread. If nobody reads us any more, lines are dropped and `gone` is true."""

    def __init__(self, out: IO[str] | None = None, *, colour: bool = False) -> None:
        self._out = out or sys.stdout
        self._colour = colour
        self._lock = threading.Lock()
        self.gone = False

    def say(self, line: str = "") -> None:
        """Write a line of our own."""
        with self._lock:
            try:
                print(line, file=self._out, flush=True)
            except (OSError, ValueError):
                # A closed pipe must not end the thread that empties a process's pipe, nor our stopping.
                self.gone = True

    def relay(self, name: str, number: int, line: str) -> None:
        """Write a line of a process."""
        prefix = f"{name:<7}|"
        if self._colour:
            prefix = f"\x1b[{COLOURS[number % len(COLOURS)]}m{prefix}\x1b[0m"
        self.say(f"{prefix} {line}")
