"""Background greenlets without which the process would only look alive: if one dies, the process does, loudly.

Imports gevent: only web processes and workers use this module.
"""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import gevent
import structlog
from gevent import Greenlet, GreenletExit

from core import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

SOFTWARE_ERROR: Final = 70
"""Exit code of a process that met an error nobody foresaw (EX_SOFTWARE)."""
TICK_SECONDS: Final = 0.05
STALL_SECONDS: Final = 0.3
STALLED: Final = "the hub stood still"
SCHEDSTAT: Final = Path("/proc/self/schedstat")
"""Nanoseconds on a processor, and ready for one (Linux, Documentation/scheduler/sched-stats)."""


def die(what: str) -> NoReturn:
    """End the process at once, with the current exception in the log. Supervisors start a new one."""
    try:
        log.critical("a vital part of this process died", part=what, exc_info=True)
    finally:
        # Also when the log itself cannot be written: half a process is worse than none.
        os._exit(SOFTWARE_ERROR)


def spawn_vital(name: str, work: Callable[..., Any], *args: Any) -> Greenlet[Any]:
    """Run `work(*args)` in a greenlet whose failure ends the process. Returning, or being killed, is no failure."""

    def guarded() -> Any:
        try:
            return work(*args)
        except GreenletExit:
            raise
        except BaseException:  # noqa: BLE001  (whatever it is, it is logged, and the process ends)
            die(name)

    greenlet = gevent.spawn(guarded)
    greenlet.name = name
    return greenlet


def loudly(callback: Callable[..., None]) -> Callable[..., None]:
    """Wrap a callback of gevent's loop: the loop itself would print an exception and go on."""

    @functools.wraps(callback)
    def guarded(*args: Any) -> None:
        try:
            callback(*args)
        except BaseException:  # noqa: BLE001  (as above)
            die(getattr(callback, "__qualname__", repr(callback)))

    return guarded


def watch_hub() -> Greenlet[Any]:
    """Measure how long the loop stands still: somebody blocks it."""
    return spawn_vital("hub watch", _watch_hub)


def _watch_hub() -> NoReturn:
    before, unserved_before = time.monotonic(), unserved_seconds()
    while True:
        gevent.sleep(TICK_SECONDS)
        now, unserved = time.monotonic(), unserved_seconds()
        stall = now - before - TICK_SECONDS
        metrics.HUB_LAG_SECONDS.observe(max(0.0, stall))
        if stall > STALL_SECONDS:
            metrics.HUB_STALLS.observe(stall)
            # What it was ready for and had no processor is the machine's doing; the rest, somebody blocked it.
            log.warning(STALLED, seconds=round(stall, 3), without_processor=round(unserved - unserved_before, 3))
        before, unserved_before = now, unserved


def unserved_seconds() -> float:
    """Return how long this process's main thread was ready to run and had no processor; 0 where the kernel does not count."""
    try:
        return int(SCHEDSTAT.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
