"""Looking for patterns beside the loop: RE2 lets go of Python's lock, so a thread of its own keeps no stream waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gevent
from gevent.threadpool import ThreadPool

from app.process import is_patched
from core.errors import ValidationFailed
from streams.match import Pattern, PatternFaulty

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        # Tens of milliseconds at worst, so of its own: it does not wait behind looks, which may take seconds.
        self._compiler = ThreadPool(1) if is_patched() else None

    def pattern(self, text: str, loc: Sequence[str]) -> Pattern:
        """Return a compiled pattern. Raises ValidationFailed, which says what is wrong at `loc` of the request."""
        compiled: Pattern | str = self._compiler.apply(_compiled, (text,)) if self._compiler else _compiled(text)
        if isinstance(compiled, str):
            raise ValidationFailed(errors=[{"loc": list(loc), "msg": f"RE2 says: {compiled}", "type": "pattern"}])
        return compiled

    def look(self, search: Search, deadline: float) -> Found | None:
        """Look for a search's next match. Raises TimeoutError at the deadline; the search may still be under way then."""
        if self._threads is None or search.work <= SMALL_WORK:
            return search.look()
        with gevent.Timeout(max(0.0, deadline - self._clock.now()), TimeoutError):
            found: Found | None = self._threads.apply(search.look)
        return found


def _compiled(text: str) -> Pattern | str:
    """Return the pattern or what is wrong with it: gevent prints the traceback of whatever a thread raises."""
    try:
        return Pattern(text)
    except PatternFaulty as fault:
        return str(fault)
