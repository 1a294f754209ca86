"""Finding a text or a pattern in output that comes piece by piece. Pure: bytes in, byte offsets out.

What is found does not depend on how many pieces were there at a look: it is the first match (of a pattern: the leftmost, by
the pattern's own preference) in the output up to the end of the first piece that completes one. Only what looks at the end
of the text (`$`, `\\z`, `\\b`) sees the end of what is there now as one, as it must: who waits for a prompt waits for an end.

A pattern comes from a stranger. RE2 takes time proportional to the size of the pattern times that of the output, whatever
the pattern, so both are bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, Protocol

import re2  # type: ignore[import-untyped]

SPAN_BYTES: Final = 512 * 1024
"""Most bytes of a pattern's match, and so of the output that is kept while more is waited for."""
LARGEST_PROGRAM: Final = 8 * 1024
"""Instructions a pattern may compile to: `.` is about ten, a class like `\\pL` a thousand."""
WORK: Final = 2**27
"""Instructions times bytes of one look, a second at worst: the matches of large patterns may have fewer bytes."""
PATTERN_MEMORY_BYTES: Final = 512 * 1024
"""Of one compiled pattern; the library keeps 128 of them."""


class PatternFaulty(ValueError):
    """A pattern that cannot be taken; says why."""


class Needle(Protocol):
    """What is looked for."""

    @property
    def weight(self) -> int:
        """Return the steps that looking at one byte may take; 0: next to nothing."""

    @property
    def reach(self) -> int:
        """Return how many bytes at the end of what was looked at in vain may belong to a match that is still to come."""

    def find(self, haystack: bytearray, start: int, end: int) -> tuple[int, int] | None:
        """Return (start, end) of the first match inside [start, end); what stands around it may be looked at."""


class Literal:
    """A text, byte for byte."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.weight = 0
        self.reach = len(text) - 1

    def find(self, haystack: bytearray, start: int, end: int) -> tuple[int, int] | None:
        """Return where it stands first."""
        at = haystack.find(self._text, start, end)
        return None if at < 0 else (at, at + len(self._text))


class Pattern:
    """A regular expression in RE2's syntax, over UTF-8. Raises PatternFaulty."""

    def __init__(self, pattern: str) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = PATTERN_MEMORY_BYTES
        try:
            self._compiled = re2.compile(pattern.encode(), options=options)
        except re2.error as fault:
            raise PatternFaulty(_words(fault)) from None
        self.weight = self._compiled.programsize
        if self.weight > LARGEST_PROGRAM:
            raise PatternFaulty("pattern too large - fewer or smaller repetitions and classes are needed")
        self.reach = min(SPAN_BYTES, WORK // self.weight)

    def find(self, haystack: bytearray, start: int, end: int) -> tuple[int, int] | None:
        """Return where it matches first."""
        match = self._compiled.search(haystack, start, end)
        return None if match is None else match.span()


def _words(fault: re2.error) -> str:
    said = fault.args[0] if fault.args else b""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


@dataclass(frozen=True, slots=True)
class Found:
    """A match: where in the output it begins, and its bytes."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Return the offset behind it."""
        return self.offset + len(self.data)


class Search:
    """Looks for the first match in the output from a byte on."""

    def __init__(self, needle: Needle, offset: int) -> None:
        self._needle = needle
        self._buffer = bytearray()
        self._begin = self._base = offset
        """Where the buffer begins in the output."""
        self._start = 0
        """Where in the buffer a match may begin. One byte before it is kept: `^` and `\\b` look at it."""
        self._ends: list[int] = []
        """Where the pieces end that were not looked at yet, in the buffer."""

    @property
    def resume_at(self) -> int:
        """Return where another search has to begin to miss nothing that this one has not found."""
        return self._base + self._start

    @property
    def work(self) -> int:
        """Return how many steps the next look may take."""
        return self._needle.weight * (len(self._buffer) - self._start) if self._ends else 0

    @property
    def wants_bytes(self) -> int:
        """Return how much output is best added between two looks."""
        return max(16 * 1024, min(256 * 1024, self._needle.reach)) if self._needle.weight else 256 * 1024

    def add(self, offset: int, piece: bytes) -> None:
        """Take the piece of output that begins at `offset`; what was printed before the search's begin is left out."""
        end = self._base + len(self._buffer)
        if offset > end:
            self.tear()
            self._base = end = offset
        if fresh := piece[end - offset :]:
            self._buffer += fresh
            self._ends.append(len(self._buffer))

    def tear(self) -> None:
        """Take note that output is missing here: nothing matches across. What follows may even have offsets that were used."""
        self._buffer.clear()
        self._ends.clear()
        self._base, self._start = self._begin, 0

    def look(self) -> Found | None:
        """Return the first match in what was added so far."""
        if not self._ends:
            return None
        spot = self._find(len(self._buffer))
        if spot is None:
            self._forget()
            return None
        # By halves: which piece was the first to complete a match? The last one surely was.
        first = bisect_left(self._ends, True, hi=len(self._ends) - 1, key=lambda end: self._find(end) is not None)
        start, end = self._find(self._ends[first]) or spot
        return Found(self._base + start, bytes(self._buffer[start:end]))

    def _find(self, end: int) -> tuple[int, int] | None:
        return self._needle.find(self._buffer, self._start, end)

    def _forget(self) -> None:
        """Let go of what no match can begin in any more."""
        self._ends.clear()
        self._start = max(self._start, len(self._buffer) - self._needle.reach)
        surplus = max(0, self._start - 1)
        del self._buffer[:surplus]
        self._base += surplus
        self._start -= surplus
