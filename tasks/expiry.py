"""Removing events after their retention: a part of housekeeping's rounds, a second at most each."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core import metrics
from models import mirroring

if TYPE_CHECKING:
    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database

log = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 60.0
BATCH: Final = 2000


class EventExpiry:
    """Removes what is over, published or not: the outbox has no other bound."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._done = -float("inf")

    def round(self) -> None:
        """Remove for a moment; when nothing is left that is over, rest."""
        began = self._clock.now()
        if began - self._done < min(PAUSE_SECONDS, self._settings.retention_events_seconds):
            return
        older_than = self._clock.at() - timedelta(seconds=self._settings.retention_events_seconds)
        removed = never_published = 0
        while self._clock.now() - began < ROUND_SECONDS:
            with self._database.transaction() as tx:
                gone, unpublished = mirroring.expire(tx, older_than, limit=BATCH)
            removed, never_published = removed + gone, never_published + unpublished
            if gone < BATCH:
                self._done = self._clock.now()
                break
        self._tell(removed, never_published)

    def _tell(self, removed: int, never_published: int) -> None:
        metrics.EVENTS_EXPIRED.labels("yes").inc(removed - never_published)
        metrics.EVENTS_EXPIRED.labels("no").inc(never_published)
        if removed:
            log.info("events removed after their retention", events=removed)
        if never_published and self._settings.nats_url is not None:
            log.error("events were removed that NATS never had: it was away too long", events=never_published)
