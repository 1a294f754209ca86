"""Sealing the audit: a part of housekeeping's rounds, a second at most each. Requests write rows; nothing here holds them up."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from core import metrics
from core.errors import DatabaseUnavailable
from models import audit_chain, tickets
from models.audit_chain import ANCHOR_EVERY, BATCH, Link

if TYPE_CHECKING:
    from core.clock import Clock
    from core.settings import Settings
    from models.audit_chain import Mark
    from models.database import Database

log = structlog.get_logger(__name__)

ROUND_SECONDS: Final = 1.0
"""Longest that a round works on a backlog: housekeeping has others to look after."""
EXPIRE_SECONDS: Final = 60.0
TELL_SECONDS: Final = 3600.0


class Sealer:
    """Seals what was settled since the round before. The mark stays in memory: a transaction's number means nothing
    in a database that was restored, and a new process loses one round.
    """

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._mark: Mark | None = None
        self._expired = self._told = -float("inf")

    def round(self) -> None:
        """Seal, remove what is over. Whatever is wrong with the audit, lost workers must not wait for it."""
        try:
            self._seal()
            self._expire()
        except DatabaseUnavailable:
            raise
        except Exception:
            metrics.AUDIT_FAULTS.labels("sealing").inc()
            log.exception("the audit cannot be sealed; see: flask audit verify")

    def _seal(self) -> None:
        until = self._clock.now() + ROUND_SECONDS
        while self._mark is not None and self._clock.now() < until:
            with self._database.transaction() as tx:
                if not audit_chain.is_settled(tx, self._mark):
                    return
                sealed, head = audit_chain.seal(tx, self._mark, at=self._clock.at())
            self._tell(sealed, head)
            if sealed < BATCH:
                self._mark = None
        if self._mark is None:
            with self._database.transaction() as tx:
                self._mark = audit_chain.mark(tx)

    def _tell(self, sealed: int, head: Link) -> None:
        """Log the end of the chain now and then: where logs are kept elsewhere, that proves what it was."""
        metrics.AUDIT_SEALED.inc(sealed)
        passed = head.position // ANCHOR_EVERY > (head.position - sealed) // ANCHOR_EVERY
        if sealed and (passed or self._clock.now() - self._told > TELL_SECONDS):
            self._told = self._clock.now()
            log.info("audit chain", position=head.position, audit_id=head.audit_id, seal=head.seal.hex())

    def _expire(self) -> None:
        if self._clock.now() - self._expired < EXPIRE_SECONDS:
            return
        at = self._clock.at()
        older_than = at - timedelta(seconds=self._settings.retention_audit_seconds)
        with self._database.transaction() as tx:
            tickets.forget_expired(tx)
            removed = audit_chain.expire(tx, older_than, at=at)
        if removed < BATCH:  # else the next round goes on
            self._expired = self._clock.now()
        if removed:
            log.info("audit rows removed after their retention", rows=removed)
