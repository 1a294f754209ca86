"""Writing into PostgreSQL what running sessions are doing: active, idle, waiting for input.

The log says it at once; the rows follow, all sessions' in one transaction. What gathers during one is the next one's work,
and only the last status of each session counts: a program that asks and is answered ten times a second costs no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from models import claims
from models.claims import Shown
from models.events import Origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from models.lifecycle import Status
    from runner.live import LiveSession
    from runner.world import World

RETRY_SECONDS = 1.0
PAUSE_SECONDS = 0.05


class Statuses:
    """What rows do not say yet."""

    def __init__(self, world: World, is_settled: Callable[[UUID], bool]) -> None:
        """Take whom to ask whether a session's start stands in its row: before that there is no status to change."""
        self._world = world
        self._is_settled = is_settled
        self._news: dict[UUID, tuple[LiveSession, Status]] = {}
        self._bell = Event()

    def open(self) -> None:
        """Start writing."""
        spawn_vital("statuses", self._work)

    def note(self, live: LiveSession, status: Status) -> None:
        """A session has come to a status. Callable from the hub."""
        self._news[live.id] = (live, status)
        self._bell.set()

    def forget(self, session_id: UUID) -> None:
        """The session is over."""
        self._news.pop(session_id, None)

    def _work(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            ready = {each: news for each, news in self._news.items() if self._is_settled(each)}
            for each in ready:
                del self._news[each]
            try:
                self._write(ready)
            except DatabaseUnavailable:
                self._news = ready | self._news
                gevent.sleep(RETRY_SECONDS)
            if self._news:
                self._bell.set()
            gevent.sleep(PAUSE_SECONDS)

    def _write(self, ready: dict[UUID, tuple[LiveSession, Status]]) -> None:
        shown = [Shown(live.id, live.identity.fence, status) for live, status in ready.values() if not live.abandoned]
        if shown:
            with self._world.database.transaction() as tx:
                claims.show(tx, shown, Origin(f"worker:{self._world.name}"), at=self._world.clock.at())
