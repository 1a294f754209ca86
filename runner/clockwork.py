"""The clock of all sessions of one worker: what time brings about, and looking at what their processes do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import gevent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from core.clock import Clock
    from runner.live import LiveSession

TICK_SECONDS = 0.1
LOOK_SECONDS = 0.005
"""Of each tick, for looking into /proc: half a millisecond a process."""


def keep_ticking(sessions: Mapping[UUID, LiveSession], clock: Clock) -> NoReturn:
    """Tick, for good."""
    while True:
        gevent.sleep(TICK_SECONDS)
        for live in list(sessions.values()):
            live.tick()
        look_around(sessions, clock)


def look_around(sessions: Mapping[UUID, LiveSession], clock: Clock) -> None:
    """Look at what some processes do; never for long, because every pipe waits meanwhile."""
    enough = clock.now() + LOOK_SECONDS
    for live in list(sessions.values()):
        now = clock.now()
        if now >= enough:
            return
        if live.look_due(now):
            live.look(now)
