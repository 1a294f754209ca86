"""Streams end with the key they were opened with: one query a process and a few seconds, for all keys in use.

A stream is told at once (`end`), or asks `Watched.check` before it sends anything, heartbeats included. One whose client takes
nothing, not even that, is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import gevent
import structlog

from core.errors import DatabaseUnavailable, InvalidApiKey
from core.vital import spawn_vital
from models import api_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.keyring import Caller
    from app.stored_keys import StoredKeys
    from core.clock import Clock
    from models.database import Database

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 5.0
CUT_SECONDS: Final = 18.0
"""How long a stream has for ending by itself: a heartbeat comes every 15 s. With the look, all in less than 30 s."""
WRITE_SECONDS: Final = 15.0
"""How often this process writes what keys were used, each of them at most once a minute."""


@dataclass(eq=False, slots=True)
class Watched:
    """An open stream and its key. `cut`: ends it from outside; `end`: lets it end in its own words."""

    caller: Caller
    cut: Callable[[], None] | None = None
    end: Callable[[], None] | None = None
    over_since: float | None = None

    def check(self) -> None:
        """Raise InvalidApiKey once the key is revoked or has expired."""
        if self.over_since is not None:
            raise InvalidApiKey


class KeyWatch:
    """The open streams of one process, by their keys. Keys of the environment last as long as the process."""

    def __init__(self, database: Database, stored: StoredKeys, clock: Clock) -> None:
        self._database = database
        self._stored = stored
        self._clock = clock
        self._watched: set[Watched] = set()
        self._written = clock.now()

    def open(self) -> None:
        """Begin to look."""
        spawn_vital("key watch", self._keep_looking)

    def enter(
        self, caller: Caller, cut: Callable[[], None] | None = None, end: Callable[[], None] | None = None
    ) -> Watched:
        """Watch the key of a stream that opens."""
        watched = Watched(caller, cut, end)
        if caller.key_id is not None:
            self._watched.add(watched)
        return watched

    def leave(self, watched: Watched) -> None:
        """Forget a stream that has ended."""
        self._watched.discard(watched)

    def look(self) -> None:
        """See which keys are still good. Without PostgreSQL nobody can say: all go on."""
        watching = [*self._watched]  # those that come in while PostgreSQL is asked are looked at the next time
        wanted = {watched.caller.key_id for watched in watching if watched.caller.key_id is not None}
        if not wanted:
            return
        with self._database.transaction() as tx:
            rows = api_keys.standing(tx, wanted)
        at = self._clock.at()
        for watched in watching:
            row = rows.get(watched.caller.key_id) if watched.caller.key_id is not None else None
            if row is None or not api_keys.admits(row, watched.caller.generation, at=at):
                self._end(watched)

    def _end(self, watched: Watched) -> None:
        now = self._clock.now()
        if watched.over_since is None:
            watched.over_since = now
            log.info("a stream ends with its key", key=watched.caller.key_name)
            if watched.end is not None:
                watched.end()
        elif now - watched.over_since >= CUT_SECONDS and watched.cut is not None:
            watched.cut()

    def _keep_looking(self) -> None:
        while True:
            gevent.sleep(LOOK_SECONDS)
            try:
                self.look()
                if self._clock.now() - self._written >= WRITE_SECONDS:
                    self._written = self._clock.now()
                    self._stored.write_used()
            except DatabaseUnavailable as fault:
                log.debug("keys not looked at", error=str(fault))
