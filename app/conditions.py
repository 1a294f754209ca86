"""What a client can wait for in a session's log. A condition is shown the log as it comes and says when it has come true.

No clock and no I/O: time is handed in, and looking for text is done by whoever holds the threads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from models.lifecycle import FINAL, Status
from streams.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from streams.entries import Entry
    from streams.log import Reading
    from streams.match import Found, Search

READ_BYTES: Final = 1024 * 1024


class Condition(Protocol):
    """Something a client waits for."""

    @property
    def wants_bytes(self) -> int:
        """Return how much output it is best shown at once."""

    @property
    def next_offset(self) -> int:
        """Return where in the output the next wait has to begin."""

    @property
    def found(self) -> Found | None:
        """Return what was found in the output."""

    @property
    def status(self) -> Status | None:
        """Return the status that was waited for."""

    def see(self, reading: Reading, now: float) -> bool:
        """Take what came, maybe nothing; return whether the condition has come true."""

    def patience(self, now: float) -> float:
        """Return after how many seconds it may come true by itself."""


class _OfTheLog:
    """What conditions share that are not about the text of the output: where the output ends."""

    wants_bytes = READ_BYTES
    found: Found | None = None
    status: Status | None = None

    def __init__(self, end: int) -> None:
        self.next_offset = end

    def _note_end(self, entry: Entry) -> None:
        if entry.is_output:
            self.next_offset = entry.end_offset


class Exits(_OfTheLog):
    """The session's end."""

    def see(self, reading: Reading, now: float) -> bool:  # noqa: ARG002  (nothing comes true by waiting)
        """Take what came."""
        for entry in reading.entries:
            self._note_end(entry)
        return reading.ended

    def patience(self, now: float) -> float:  # noqa: ARG002  (as above)
        """Return that nothing comes true by waiting."""
        return math.inf


class Becomes(_OfTheLog):
    """One of some statuses: the one the session has, or one it gets, be it for a moment.

    Entries up to `head` were there before the wait: of their statuses only the last counts, as the one it has. The log is
    ahead of the session's row but for `terminating`, which the web tier writes into the row alone.
    """

    def __init__(self, wanted: Collection[Status], row: Status, head: int, stored: tuple[int, int]) -> None:
        self._seq, end = stored
        super().__init__(end)
        self._wanted = wanted
        self._is = row
        self._head = head

    def see(self, reading: Reading, now: float) -> bool:  # noqa: ARG002  (nothing comes true by waiting)
        """Take what came."""
        for entry in reading.entries:
            if self._is_now():
                break
            self._note_end(entry)
            self._seq = entry.seq
            status = status_in(entry)
            if status is not None and (self._is is not Status.TERMINATING or status in FINAL):
                self._is = status
        if reading.ended:
            self._head = self._seq
        self.status = self._is if self._is_now() else None
        return self._is_now()

    def patience(self, now: float) -> float:  # noqa: ARG002  (as above)
        """Return that only what is so already comes true by itself."""
        return 0.0 if self._is_now() else math.inf

    def _is_now(self) -> bool:
        return self._seq >= self._head and self._is in self._wanted


class FallsQuiet(_OfTheLog):
    """So many seconds without output, counted from the last output or the begin of the wait, whichever is later.

    Not from an output before the wait: a client that has just sent input waits for what the program makes of it. A program
    that has not started is not quiet: for it the time begins with its start.
    """

    def __init__(self, seconds: float, *, running: bool, end: int, now: float) -> None:
        super().__init__(end)
        self._seconds = seconds
        self._running = running
        self._since = now

    def see(self, reading: Reading, now: float) -> bool:
        """Take what came."""
        for entry in reading.entries:
            self._note_end(entry)
            status = status_in(entry)
            runs = self._running if status is None else status is not Status.INITIALIZING
            if entry.is_output or (runs and not self._running):
                self._since = now
            self._running = runs
        return self.patience(now) <= 0 and not reading.ended

    def patience(self, now: float) -> float:
        """Return what is left of the time."""
        return self._since + self._seconds - now if self._running else math.inf


class Prints:
    """A text or a pattern in the output from a byte on. `look` raises TimeoutError where it takes too long."""

    status: Status | None = None

    def __init__(self, search: Search, look: Callable[[Search], Found | None]) -> None:
        self.found: Found | None = None
        self.wants_bytes = search.wants_bytes
        self._search = search
        self._look = look
        self._resume_at = search.resume_at
        self._broken_off = False

    @property
    def next_offset(self) -> int:
        """Return the byte behind the match; without one, where a match may still begin: nothing is missed."""
        return self.found.end if self.found else self._resume_at

    def see(self, reading: Reading, now: float) -> bool:  # noqa: ARG002  (nothing comes true by waiting)
        """Take what came."""
        if self._broken_off:
            return False
        for entry in reading.entries:
            if entry.is_output:
                self._search.add(entry.offset, entry.data)
            elif entry.kind is EntryKind.GAP:
                self._search.tear()
        self._try()
        return self.found is not None

    def _try(self) -> None:
        try:
            self.found = self._look(self._search)
        except TimeoutError:  # the search may still be under way, in its thread: it is not to be touched again
            self._broken_off = True
        else:
            self._resume_at = self._search.resume_at

    def patience(self, now: float) -> float:  # noqa: ARG002  (as above)
        """Return that nothing comes true by waiting."""
        return math.inf


def status_in(entry: Entry) -> Status | None:
    """Return the status an entry tells of."""
    if entry.kind in (EntryKind.STATUS, EntryKind.TERMINATED):
        return Status(entry.fields["status"])
    return Status.INITIALIZING if entry.kind is EntryKind.RESTARTED else None
