"""Fetching the mailboxes of this worker's sessions, and reporting what became of each row.

A bell only says "look". One statement fetches the new rows of every session that was rung for; each renewal of the lease
looks at all of them, so a lost bell costs seconds, never an input.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import gevent
import structlog
from gevent.event import Event
from gevent.lock import RLock

from core import metrics
from core.errors import DatabaseUnavailable
from core.vital import spawn_vital
from models import inputs
from models.inputs import Want
from runner.live import ROWS_A_LOOK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from models.inputs import Delivery, Mail
    from runner.live import LiveSession
    from runner.world import World

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
BATCH = 1000


class Mailroom:
    """Looks into mailboxes when rung; delivers rows in order; reports in batches."""

    def __init__(self, world: World, sessions: Mapping[UUID, LiveSession]) -> None:
        self._world = world
        self._sessions = sessions
        self._rung: set[UUID] = set()
        self._bell = Event()
        self._reports: deque[Delivery] = deque()
        self._round_under_way = RLock()

    def open(self) -> None:
        """Start looking."""
        spawn_vital("mailroom", self._work)

    def ring(self, session_ids: Iterable[UUID]) -> None:
        """Look into these mailboxes soon. Unknown sessions are not ours: somebody else was told, or nobody needs to be."""
        mine = [session_id for session_id in session_ids if session_id in self._sessions]
        if mine:
            self._rung.update(mine)
            self._bell.set()

    def report(self, delivery: Delivery) -> None:
        """Note what became of a row; written with the next look. Callable from the hub."""
        self._reports.append(delivery)
        self._bell.set()

    def take_reports(self, session_id: UUID) -> list[Delivery]:
        """Take over a session's reports that are not written yet: its end writes them.

        Waits for the round under way: what that fetches is handed over, and what it reports is written, before the end.
        """
        with self._round_under_way:
            return self._take_reports(session_id)

    def _take_reports(self, session_id: UUID) -> list[Delivery]:
        mine = [report for report in self._reports if report.session_id == session_id]
        self._reports = deque(report for report in self._reports if report.session_id != session_id)
        return mine

    def _work(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            rung, self._rung = self._rung, set()
            try:
                with self._round_under_way:
                    self._round(rung)
            except DatabaseUnavailable:
                self._rung |= rung
                self._bell.set()
                gevent.sleep(RETRY_SECONDS)

    def _round(self, rung: set[UUID]) -> None:
        reports = [self._reports.popleft() for _ in range(min(BATCH, len(self._reports)))]
        wants = [self._want(live) for live in map(self._sessions.get, rung) if live and not live.abandoned]
        try:
            with self._world.database.transaction() as tx:
                inputs.report(tx, reports)
                mail = inputs.fetch(tx, self._world.incarnation, wants) if wants else []
        except DatabaseUnavailable:
            self._reports.extendleft(reversed(reports))
            raise
        for letter in mail:
            self._hand_over(letter)
        # A mailbox that gave as many rows as it was asked for may hold more.
        counts = Counter(letter.session_id for letter in mail)
        self.ring(session_id for session_id, count in counts.items() if count >= ROWS_A_LOOK)
        if self._reports:
            self._bell.set()

    def _want(self, live: LiveSession) -> Want:
        return Want(live.id, live.identity.fence, live.after_ordered, live.after_urgent, live.room_for_input())

    def _hand_over(self, letter: Mail) -> None:
        live = self._sessions.get(letter.session_id)
        if live is not None and not live.abandoned:
            live.receive(letter)
            metrics.INPUTS_WRITTEN.inc()
