"""Removing what its retention is over for: a part of housekeeping's rounds, a second at most each.

Events, output and sessions take turns: one of them a round, and only if it is due. The audit's is `tasks.sealing`'s, for it is
a chain; deliveries' the webhooks process's; workspaces' each worker's, for they are files of its host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core import metrics
from core.errors import DatabaseUnavailable
from models import mirroring, retention

if TYPE_CHECKING:
    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database

log = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 1.0
BATCH: Final = 2000


class Expiry(ABC):
    """Something that goes after a time. Rests when nothing is left that is over."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._done = -float("inf")

    @property
    @abstractmethod
    def retention_seconds(self) -> float:
        """Return after how long it goes."""

    @abstractmethod
    def step(self) -> bool:
        """Remove some; return whether there may be more."""

    @abstractmethod
    def tell(self) -> None:
        """Say what went since the last time."""

    def is_due(self) -> bool:
        """Whether there may be something to remove."""
        rest = min(self._settings.session_cleanup_interval_seconds, self.retention_seconds)
        return self._clock.now() - self._done >= rest

    def rest(self) -> None:
        """Be due again after a while."""
        self._done = self._clock.now()

    def round(self) -> None:
        """Remove for a moment."""
        until = self._clock.now() + ROUND_SECONDS
        while self._clock.now() < until:
            if not self.step():
                self.rest()
                break
        self.tell()


class EventExpiry(Expiry):
    """Removes events, published or not: the outbox has no other bound."""

    _removed = _never_published = 0

    @property
    def retention_seconds(self) -> float:
        """Return after how long events go."""
        return self._settings.retention_events_seconds

    def step(self) -> bool:
        """Remove the oldest."""
        older_than = self._clock.at() - timedelta(seconds=self.retention_seconds)
        with self._database.transaction() as tx:
            gone, unpublished = mirroring.expire(tx, older_than, limit=BATCH)
        self._removed, self._never_published = self._removed + gone, self._never_published + unpublished
        return gone == BATCH

    def tell(self) -> None:
        """Say what went, and what of it NATS never had."""
        removed, never_published = self._removed, self._never_published
        self._removed = self._never_published = 0
        metrics.EVENTS_EXPIRED.labels("yes").inc(removed - never_published)
        metrics.EVENTS_EXPIRED.labels("no").inc(never_published)
        if removed:
            log.info("events removed after their retention", events=removed)
        if never_published and self._settings.nats_url is not None:
            log.error("events were removed that NATS never had: it was away too long", events=never_published)


class OutputExpiry(Expiry):
    """Removes what ended sessions printed. Where it has come to stays in memory: a new process goes over all of it once."""

    _removed = 0
    _place = retention.BEGIN

    @property
    def retention_seconds(self) -> float:
        """Return how long after a session's end its output goes."""
        return self._settings.retention_output_seconds

    def step(self) -> bool:
        """Remove some stretches."""
        with self._database.transaction() as tx:
            done = retention.expire_output(tx, self.retention_seconds, self._place)
        self._removed += done.removed
        self._place = done.place or self._place
        return done.place is not None

    def tell(self) -> None:
        """Say how many stretches went."""
        removed, self._removed = self._removed, 0
        metrics.SEGMENTS_EXPIRED.inc(removed)
        if removed:
            log.info("output removed after its retention", segments=removed)


class SessionExpiry(Expiry):
    """Removes sessions that ended long ago, with all that is of them."""

    _removed = 0

    @property
    def retention_seconds(self) -> float:
        """Return how long after their end sessions go."""
        return self._settings.retention_sessions_seconds

    def step(self) -> bool:
        """Remove some of what belongs to the oldest, or them."""
        with self._database.transaction() as tx:
            done = retention.expire_sessions(tx, self.retention_seconds)
        self._removed += done.removed
        return done.place is not None

    def tell(self) -> None:
        """Say how many went."""
        removed, self._removed = self._removed, 0
        metrics.SESSIONS_EXPIRED.inc(removed)
        if removed:
            log.info("sessions removed after their retention", sessions=removed)


class Turns:
    """One of several a round: housekeeping has others to look after."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._parts: list[Expiry] = [
            kind(database, settings, clock) for kind in (EventExpiry, OutputExpiry, SessionExpiry)
        ]

    def round(self) -> None:
        """Let the first that is due have its round, and be the last one next time. Lost workers must not wait for its faults."""
        due = next((part for part in self._parts if part.is_due()), None)
        if due is None:
            return
        self._parts.remove(due)
        self._parts.append(due)
        try:
            due.round()
        except DatabaseUnavailable:
            raise
        except Exception:
            due.rest()
            log.exception("what is over cannot be removed", part=type(due).__name__)
