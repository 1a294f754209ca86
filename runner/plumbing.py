"""The worker's ends of a process's pipes or terminal, on gevent's loop and without a greenlet of their own.

Callbacks run in the hub: they never block, and an exception in one takes the process down (`core.vital.loudly`), because a
pipe that is not read any more would be a session that silently stands still. Which bytes mean what is decided above.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gevent import get_hub

from core.vital import loudly
from runner.terminal import LINE_BYTES, unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.terminal import Terminal

READ_BYTES: Final = 64 * 1024
"""One read a turn and pipe: a flood does not starve the neighbours. Linux pipes hold as much."""
READABLE, WRITABLE = 1, 2  # libev's event bits


@dataclass(frozen=True, slots=True)
class Letter:
    """Bytes for stdin under the number they will be reported with; number None: not reported.

    `eof`: the end of input follows. `size`: the terminal's new rows and columns, in its place among the bytes.
    """

    number: int | None
    body: bytes = b""
    eof: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Ears:
    """Whom to tell. All are called in the hub."""

    output: Callable[[str, bytes], None]
    """Stream name and bytes, never empty."""
    drained: Callable[[], None]
    """Every output pipe is at its end. Once."""
    written: Callable[[int], None]
    """All bytes of the letter are in the pipe."""
    refused: Callable[[int, str], None]
    """The letter is not written: the process closed its stdin, or its terminal would cut the line."""


class Plumbing:
    """Reads and writes one process's pipes, or terminal, until they are closed."""

    def __init__(
        self, outputs: dict[int, str], stdin: int | None, ears: Ears, terminal: Terminal | None = None
    ) -> None:
        """Take over non-blocking descriptors: `outputs` maps each to its stream's name."""
        loop = get_hub().loop
        self.terminal = terminal
        self._ears = ears
        self._readers = {fd: loop.io(fd, READABLE) for fd in outputs}
        self._names = outputs
        self._stdin = stdin
        self._writer = loop.io(stdin, WRITABLE) if stdin is not None else None
        self._letters: deque[Letter] = deque()
        self._body = b""
        """What is left to write of the first letter."""
        self._begun = False
        self._line = 0
        """Bytes of the line that the terminal's line editor gathers."""
        self.waiting_bytes = 0
        self.paused = False
        for fd, reader in self._readers.items():
            reader.start(loudly(self._read), fd)

    @property
    def listening(self) -> bool:
        """Whether some output pipe is not at its end."""
        return bool(self._readers)

    def pause(self) -> None:
        """Stop reading: the pipe fills, and the process waits."""
        if not self.paused:
            self.paused = True
            for reader in self._readers.values():
                reader.stop()

    def resume(self) -> None:
        """Read on."""
        if self.paused:
            self.paused = False
            for fd, reader in self._readers.items():
                reader.start(loudly(self._read), fd)

    def _read(self, fd: int) -> None:
        try:
            chunk = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process on a terminal closed it
            chunk = b""
        if chunk:
            self._ears.output(self._names[fd], chunk)
        else:
            self._close_output(fd)

    def _close_output(self, fd: int) -> None:
        _forget(self._readers.pop(fd), fd)
        if not self._readers:
            self._ears.drained()

    def write(self, letter: Letter) -> None:
        """Queue bytes for stdin. The caller bounds what it queues by `waiting_bytes`."""
        if self._stdin is None or self._writer is None:
            self._refuse(letter)
            return
        self._letters.append(letter)
        self.waiting_bytes += len(letter.body)
        if len(self._letters) == 1:
            self._push()

    def type_now(self, keys: bytes) -> None:
        """Write a key before what is waiting, as somebody at the keyboard would."""
        if self._stdin is not None:
            with suppress(OSError):  # full: what is in there is not read, neither would this be
                os.write(self._stdin, keys)

    def unread(self) -> bool:
        """Whether there is input that the program has not read."""
        if self._letters or self._stdin is None:
            return bool(self._letters)
        return bool(self.terminal.unread() if self.terminal else unread(self._stdin))

    def stdin_identity(self) -> tuple[int, int] | None:
        """Return (device, inode) by which a process's descriptor is known to be this pipe; None: closed."""
        if self._stdin is None:
            return None
        facts = os.fstat(self._stdin)
        return facts.st_dev, facts.st_ino

    def _push(self) -> None:
        """Write as much as the pipe takes; go on when it takes more."""
        assert self._writer is not None
        self._writer.stop()
        while self._letters:
            try:
                self._advance(self._letters[0])
            except BlockingIOError:
                self._writer.start(loudly(self._push))
                return
            except OSError:  # EPIPE, EIO: nobody reads it any more
                self._close_stdin()
                return
            if self._stdin is None:
                return

    def _advance(self, letter: Letter) -> None:
        assert self._stdin is not None
        if not self._begun and not self._begin(letter):
            return
        while self._body:
            step = os.write(self._stdin, self._body[:READ_BYTES])
            self._body = self._body[step:]
        self._drop(letter)
        if letter.number is not None:
            self._ears.written(letter.number)
        if letter.eof and self.terminal is None:
            self._close_stdin()

    def _begin(self, letter: Letter) -> bool:
        """Find out what is to be written for a letter, now that its turn has come; False if it cannot be."""
        self._body = letter.body
        if self.terminal is not None and not self._begin_typing(letter, self.terminal):
            self._drop(letter)
            if letter.number is not None:
                self._ears.refused(letter.number, "line_too_long")
            return False
        self._begun = True
        return True

    def _begin_typing(self, letter: Letter, terminal: Terminal) -> bool:
        if letter.size is not None:
            terminal.resize(*letter.size)
        if not terminal.edits_lines:
            self._line = 0
            self._body += terminal.end_of_file if letter.eof else b""
            return True
        longest, rest = line_lengths(letter.body, self._line)
        if longest > LINE_BYTES:
            return False
        if letter.eof:
            # Behind half a line the first one only hands over that half.
            self._body += terminal.end_of_file * (2 if rest else 1)
            rest = 0
        self._line = rest
        return True

    def _drop(self, letter: Letter) -> None:
        self._letters.popleft()
        self.waiting_bytes -= len(letter.body)
        self._body, self._begun = b"", False

    def _close_stdin(self) -> None:
        assert self._writer is not None
        assert self._stdin is not None
        _forget(self._writer, self._stdin)
        self._stdin = self._writer = None
        letters, self._letters, self.waiting_bytes = self._letters, deque(), 0
        self._body, self._begun = b"", False
        for letter in letters:
            self._refuse(letter)

    def _refuse(self, letter: Letter) -> None:
        if letter.number is not None:
            self._ears.refused(letter.number, "stdin_closed")

    def close(self) -> None:
        """Close everything that is still open. Tells nobody."""
        for fd, reader in self._readers.items():
            _forget(reader, fd)
        self._readers = {}
        if self._writer is not None and self._stdin is not None:
            _forget(self._writer, self._stdin)
            self._stdin = self._writer = None
        self._letters.clear()
        if self.terminal is not None:
            self.terminal.close()


def line_lengths(body: bytes, begun: int) -> tuple[int, int]:
    """Return (longest line, length of the last, unfinished one), newlines not counted, after `begun` bytes of a line."""
    lines = body.replace(b"\r", b"\n").split(b"\n")
    lengths = [len(line) for line in lines]
    lengths[0] += begun
    return max(lengths), lengths[-1]


def _forget(watcher: object, fd: int) -> None:
    """Stop and close a libev watcher before its descriptor: a reused number must not wake it."""
    watcher.stop()  # type: ignore[attr-defined]
    watcher.close()  # type: ignore[attr-defined]
    with suppress(OSError):
        os.close(fd)
