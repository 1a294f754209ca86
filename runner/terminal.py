"""The worker's side of a pseudo-terminal: window size, line discipline, who is in the foreground.

The worker keeps the program's side open too, until nothing of the session lives: else a program that closes its terminal and
opens it again later would look as if it had ended. Linux.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from contextlib import suppress
from typing import Final

TIOCSIG: Final = 0x40045436
"""Signal the foreground process group, from the master's side; not in Python's termios."""
IUTF8: Final = 0o40000
"""The line editor deletes characters, not bytes."""
LINE_BYTES: Final = 4095
"""What the kernel's line editor keeps of one line; it cuts off the rest without a word."""
GONE: Final = (OSError, ValueError, termios.error)
"""What asking a terminal may raise whose session is over, or that was closed."""
USUAL_KEYS: Final[list[bytes | int]] = [b"\x03", b"\x1c", b"\x7f", b"\x15", b"\x04"]
"""VINTR, VQUIT, VERASE, VKILL, VEOF."""
NAME: Final = "terminal"
"""The stream's name in output entries."""


class Terminal:
    """A pseudo-terminal of `rows` x `cols` that nobody uses yet; `uid`: whose it is, None: the worker's own user's."""

    def __init__(self, rows: int, cols: int, uid: int | None = None) -> None:
        self.master, self._slave = os.openpty()
        if uid is not None:
            os.fchown(self._slave, uid, -1)  # else it could not be opened by its name
        self._control = os.dup(self.master)  # the master itself is closed by whoever reads it to its end
        os.set_blocking(self.master, False)
        mode = termios.tcgetattr(self._slave)
        mode[0] |= IUTF8
        termios.tcsetattr(self._slave, termios.TCSANOW, mode)
        self.device = os.fstat(self._slave).st_rdev
        """Number of the program's side, by which a process's descriptor is recognised."""
        self.resize(rows, cols)

    @property
    def theirs(self) -> int:
        """Return the program's side."""
        return self._slave

    def resize(self, rows: int, cols: int) -> None:
        """Set the window's size; the kernel sends SIGWINCH if it differs."""
        with suppress(*GONE):  # hung up: nobody sees it any more
            fcntl.ioctl(self._control, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    @property
    def edits_lines(self) -> bool:
        """Whether the kernel gathers lines (canonical mode)."""
        return bool(self._mode()[0] & termios.ICANON)

    @property
    def end_of_file(self) -> bytes:
        """Return what the program takes for the end of its input, ^D if nobody changed it."""
        return _key(self._mode()[1][termios.VEOF])

    def interrupt(self) -> bytes:
        """Do what ^C does. Return what must be typed for it where the program handles keys itself; else it is done."""
        flags, keys = self._mode()
        if not flags & termios.ISIG:
            return _key(keys[termios.VINTR])
        with suppress(*GONE):
            fcntl.ioctl(self._control, TIOCSIG, signal.SIGINT)
        return b""

    def foreground(self) -> int | None:
        """Return the process group in the foreground."""
        try:
            group: int = struct.unpack("i", fcntl.ioctl(self._control, termios.TIOCGPGRP, b"\0" * 4))[0]
        except GONE:
            return None
        return group or None

    def unread(self) -> int:
        """Return how many bytes the program could read now."""
        return unread(self._slave)

    def _mode(self) -> tuple[int, list[bytes | int]]:
        """Return (local flags, special keys); usual ones once the session's leader is gone, and with it the terminal."""
        try:
            mode = termios.tcgetattr(self._slave)
        except GONE:
            return termios.ISIG, USUAL_KEYS
        return mode[3], mode[6]

    def hang_up(self) -> None:
        """Let go of the program's side: once nobody else has it, the output comes to its end."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def close(self) -> None:
        """Let go of all but the master, which its reader closes."""
        self.hang_up()
        if self._control >= 0:
            os.close(self._control)
            self._control = -1


def _key(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else bytes([value])


def unread(fd: int) -> int:
    """Return how many bytes wait in a pipe or terminal; either end of a pipe will do."""
    try:
        waiting: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
    except GONE:
        return 0
    return waiting
