"""Looking for patterns beside the loop: RE2 lets go of Python's lock, so a thread of its own keeps no stream waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gevent
from gevent.threadpool import ThreadPool

from app.process import is_patched
from streams.match import Pattern, PatternFaulty

if TYPE_CHECKING:
    from core.clock import Clock
    from streams.match import Found, Search

THREADS: Final = 4
"""Not gevent's own pool: names are resolved there, which must not wait behind a large pattern."""
SMALL_WORK: Final = 2**18
"""Steps that take less than going to a thread and back, or little more: a few KiB for a usual pattern."""


class Searches:
    """The threads. A plain process, a test's, has none and needs none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._threads = ThreadPool(THREADS) if is_patched() else None

    def pattern(self, text: str) -> Pattern:
        """Return a compiled pattern. Raises PatternFaulty."""
        compiled = self._threads.apply(_compiled, (text,)) if self._threads else _compiled(text)
        if isinstance(compiled, PatternFaulty):
            raise compiled
        return compiled

    def look(self, search: Search, deadline: float) -> Found | None:
        """Look for a search's next match. Raises TimeoutError at the deadline; the search may still be under way then."""
        if self._threads is None or search.work <= SMALL_WORK:
            return search.look()
        with gevent.Timeout(max(0.0, deadline - self._clock.now()), TimeoutError):
            found: Found | None = self._threads.apply(search.look)
        return found


def _compiled(text: str) -> Pattern | PatternFaulty:
    """Return the fault: gevent prints the traceback of what a thread raises."""
    try:
        return Pattern(text)
    except PatternFaulty as fault:
        return fault
