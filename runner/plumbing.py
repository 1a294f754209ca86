"""The worker's ends of a process's pipes, on gevent's loop and without a greenlet of their own.

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

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES: Final = 64 * 1024
"""One read a turn and pipe: a flood does not starve the neighbours. Linux pipes hold as much."""
READABLE, WRITABLE = 1, 2  # libev's event bits


@dataclass(frozen=True, slots=True)
class Letter:
    """Bytes for stdin under the number they will be reported with; number None: not reported. `eof` closes stdin after."""

    number: int | None
    body: bytes
    eof: bool = False


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
    """The letter cannot be written any more: the process closed its stdin."""


class Plumbing:
    """Reads and writes one process's pipes until they are closed."""

    def __init__(self, outputs: dict[int, str], stdin: int | None, ears: Ears) -> None:
        """Take over non-blocking descriptors: `outputs` maps each to its stream's name."""
        loop = get_hub().loop
        self._ears = ears
        self._readers = {fd: loop.io(fd, READABLE) for fd in outputs}
        self._names = outputs
        self._stdin = stdin
        self._writer = loop.io(stdin, WRITABLE) if stdin is not None else None
        self._letters: deque[Letter] = deque()
        self._written = 0
        self.waiting_bytes = 0
        self._paused = False
        for fd, reader in self._readers.items():
            reader.start(loudly(self._read), fd)

    @property
    def listening(self) -> bool:
        """Whether some output pipe is not at its end."""
        return bool(self._readers)

    def pause(self) -> None:
        """Stop reading: the pipe fills, and the process waits."""
        if not self._paused:
            self._paused = True
            for reader in self._readers.values():
                reader.stop()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
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

    def _push(self) -> None:
        """Write as much as the pipe takes; go on when it takes more."""
        assert self._writer is not None
        assert self._stdin is not None
        self._writer.stop()
        while self._letters:
            letter = self._letters[0]
            try:
                self._advance(letter)
            except BlockingIOError:
                self._writer.start(loudly(self._push))
                return
            except OSError:  # EPIPE: nobody reads it any more
                self._close_stdin()
                return
            if letter.eof:
                self._close_stdin()
                return

    def _advance(self, letter: Letter) -> None:
        assert self._stdin is not None
        while self._written < len(letter.body):
            step = os.write(self._stdin, letter.body[self._written : self._written + READ_BYTES])
            self._written += step
            self.waiting_bytes -= step
        self._letters.popleft()
        self._written = 0
        if letter.number is not None:
            self._ears.written(letter.number)

    def _close_stdin(self) -> None:
        assert self._writer is not None
        assert self._stdin is not None
        _forget(self._writer, self._stdin)
        self._stdin = self._writer = None
        letters, self._letters, self.waiting_bytes, self._written = self._letters, deque(), 0, 0
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


def _forget(watcher: object, fd: int) -> None:
    """Stop and close a libev watcher before its descriptor: a reused number must not wake it."""
    watcher.stop()  # type: ignore[attr-defined]
    watcher.close()  # type: ignore[attr-defined]
    with suppress(OSError):
        os.close(fd)
