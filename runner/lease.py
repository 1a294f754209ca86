"""The lease of one worker incarnation: renewing it, comparing what PostgreSQL says we hold, and passing the deadline on.

Self-fencing is the keeper's: each renewal hands it the instant at which it kills everything, whatever this process does by
then. The instant counts from *before* the request was sent: a slow reply must not eat the margin that housekeeping keeps.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import gevent
import structlog

from core import metrics
from core.errors import DatabaseUnavailable, Fenced
from core.vital import spawn_vital
from models import claims, segments, workers
from models.endings import Ending
from models.events import Origin
from models.lifecycle import FINAL, Reason
from runner.keeper_link import boottime
from streams import closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from models.database import Database, Transaction
    from models.workers import Holding
    from runner.host import Host
    from runner.live import LiveSession

log = structlog.get_logger(__name__)

LOST: Final = 75
"""Exit code of a worker that was declared lost (EX_TEMPFAIL): its supervisor starts a new incarnation."""
RENEWAL_TIMEOUT_SECONDS: Final = 2.0


class Lease:
    """Keeps one incarnation alive in the eyes of the others. `database` is its own: one connection, short time-outs."""

    def __init__(self, host: Host, database: Database) -> None:
        self._host = host
        self._settings = host.world.settings
        self._database = database
        self._unheld: set[tuple[UUID, int]] = set()
        self._given_up = False

    def open(self) -> None:
        """Renew from here on."""
        spawn_vital("lease", self._keep_renewing)

    def _keep_renewing(self) -> None:
        while not self._given_up:
            pause = self._settings.lease_renewal_seconds
            try:
                self.renew()
            except (DatabaseUnavailable, gevent.Timeout) as fault:
                log.warning("lease not renewed", error=str(fault) or "no answer")
                metrics.LEASE_FAILURES.inc()
                pause = min(pause, 1.0)
            gevent.sleep(pause)

    def give_up(self) -> None:
        """Renew no more: this incarnation leaves, and nothing is held."""
        self._given_up = True

    def renew(self) -> None:
        """Renew once, and settle what differs between PostgreSQL and this process."""
        before = list(self._host.sessions.values())  # what is claimed during the request is not in its answer
        deadline = boottime() + self._settings.lease_seconds
        with gevent.Timeout(RENEWAL_TIMEOUT_SECONDS), self._database.transaction() as tx:
            holdings = workers.renew(tx, self._host.world.incarnation)
        if self._given_up:
            return
        if holdings is None:
            self._leave_lost()
            return
        self._host.keeper.lease(deadline)
        self._settle(before, holdings)
        self._host.look(list(self._host.sessions))

    def _leave_lost(self) -> None:
        """Others have taken our sessions already: kill them, write nothing."""
        log.critical("this worker was declared lost; it kills its sessions and leaves")
        self._host.keeper.close()
        os._exit(LOST)

    def _settle(self, before: Sequence[LiveSession], holdings: Sequence[Holding]) -> None:
        told = {holding.session_id: holding for holding in holdings}
        for live in before:
            holding = told.get(live.id)
            if (holding is None or holding.fence != live.identity.fence) and not live.decisions.over:
                self._host.fenced(live.id)
        unheld = {(h.session_id, h.fence) for h in holdings if not self._host.knows(h.session_id)}
        # Twice in a row: a claim that is on its way between commit and reply is not lost yet.
        for holding in holdings:
            if (holding.session_id, holding.fence) in unheld & self._unheld:
                self._end_lost_claim(holding)
        self._unheld = unheld

    def _end_lost_claim(self, holding: Holding) -> None:
        """PostgreSQL says we hold a session we know nothing of: its claim's reply was lost, nothing was spawned."""
        log.error("claim was lost", session_id=str(holding.session_id))
        try:
            with self._host.world.database.transaction() as tx:
                self._write_lost_claim(tx, holding)
        except Fenced:
            log.warning("somebody else settled a lost claim", session_id=str(holding.session_id))

    def _write_lost_claim(self, tx: Transaction, holding: Holding) -> None:
        session = claims.held(tx, holding.session_id, holding.fence)
        if session.status in FINAL:
            return
        ending = Ending(Reason.CLAIM_LOST, error="the claim's confirmation was lost; no process was started")
        at = self._host.clock.at()
        tail = closing.standing(tx, session)
        segments.drop_behind(tx, session.id, tail.last_seq)
        closing.close(tx, session, ending, tail, Origin(f"worker:{self._host.world.name}"), at=at)
