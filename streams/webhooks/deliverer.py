"""The deliverer: puts events into webhooks' queues, claims what is due, sends it, writes what came of it. Any number may run.

What it holds in memory is what it is sending: everything else is in PostgreSQL. Killed, it leaves claims behind that end by
themselves, and one delivery for each at most is sent again, under the same id.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from core import metrics
from core.errors import DatabaseUnavailable
from core.ids import uuid7
from models import deliveries, delivery_claims, workers
from models.delivery_claims import Verdict
from streams.webhooks.addresses import Rules
from streams.webhooks.posting import body_of, headers_of, post
from streams.webhooks.schedule import REMOVED, Schedule

if TYPE_CHECKING:
    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database
    from models.delivery_claims import Due, Lane, Outcome
    from streams.webhooks.posting import Answer

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.5
MARGIN_SECONDS: Final = 5.0
"""A claim lasts this much longer than an attempt can: PostgreSQL may be slow to take down how it went."""
SOON_SECONDS: Final = 1.0
"""Whoever takes longer to answer is slow."""
MOST_IN_A_ROW: Final = 20
"""Deliveries of one lane, before others have their turn."""
NOTE_SECONDS: Final = 5.0
FORGET_SECONDS: Final = 60.0
FORGET_ROWS: Final = 5000
AGAIN_SECONDS: Final = 1.0


class Deliverer:
    """One process's part of the work."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._rules = Rules(settings.webhook_allow_private, plain_http=not settings.in_production)
        self._schedule = Schedule(settings.webhook_retry_first_seconds, settings.webhook_retry_seconds, random.uniform)
        self._places = Pool(settings.webhook_concurrency)
        self._doubtful = Pool(max(1, settings.webhook_concurrency // 2))
        """Receivers that are new, failed last or were slow have half of the places together: the others always find one."""
        self._lease_seconds = settings.webhook_timeout_seconds + MARGIN_SECONDS
        self._news = Event()
        self._stopping = False
        self._noted = self._forgot = float("-inf")

    def keep(self) -> None:
        """Work until told to stop, then end what is under way."""
        while not self._stopping:
            try:
                busy = self.round()
            except DatabaseUnavailable as fault:
                log.warning("webhooks wait for PostgreSQL", error=str(fault.__cause__ or fault))
                busy = False
            self._news.clear()
            if not busy:
                self._news.wait(LOOK_SECONDS)
        self._places.join(timeout=self._settings.webhook_timeout_seconds + AGAIN_SECONDS)

    def stop(self) -> None:
        """Claim nothing more; what is under way goes on to its end."""
        self._stopping = True
        self._news.set()

    def round(self) -> bool:
        """Do what there is to do now; return whether there may be more at once."""
        self._keep_house()
        with self._database.transaction() as tx:
            queued = deliveries.queue_news(tx)
        for proven, places in ((True, self._places), (False, self._doubtful)):
            self._claim(places, proven=proven)
        return queued == deliveries.MOST_A_STEP

    def _claim(self, places: Pool, *, proven: bool) -> None:
        free = min(places.free_count(), self._places.free_count())
        if free <= 0:
            return
        claim_id, until = uuid7(), self._clock.now() + self._lease_seconds
        with self._database.transaction() as tx:
            lease = self._lease_seconds
            lanes = delivery_claims.claim(tx, claim_id, proven=proven, lease_seconds=lease, limit=free)
        for lane in lanes:
            sending = self._places.spawn(self._guarded, lane, until)
            if not proven:
                self._doubtful.add(sending)

    def _guarded(self, lane: Lane, until: float) -> None:
        try:
            self._send(lane, until)
        except DatabaseUnavailable as fault:
            # The claim ends by itself, and then it is another's turn.
            log.warning("a lane of a webhook was left", webhook_id=str(lane.webhook_id), error=str(fault.__cause__))
        finally:
            self._news.set()

    def _send(self, lane: Lane, until: float) -> None:
        """Send what waits in a lane, one after the other, as long as it goes well."""
        with self._database.transaction() as tx:
            due = delivery_claims.begin(tx, lane)
        for count in range(1, MOST_IN_A_ROW + 1):
            if due is None:
                return
            if self._clock.now() + self._settings.webhook_timeout_seconds >= until:
                return  # stopped in between, or PostgreSQL was: by the time it is sent the lane may be another's
            outcome = self._attempt(due)
            begun = self._clock.now()
            due = self._settle(lane, due, outcome, until, go_on=count < MOST_IN_A_ROW and not self._stopping)
            until = begun + self._lease_seconds

    def _attempt(self, due: Due) -> Outcome:
        began = self._clock.now()
        answer = REMOVED if due.envelope is None else self._post(due)
        metrics.WEBHOOK_ATTEMPTS.labels(answer.kind).inc()
        seconds = self._clock.now() - began
        metrics.WEBHOOK_SECONDS.observe(seconds)
        outcome = replace(self._schedule.outcome(due, answer), soon=seconds < SOON_SECONDS)
        if outcome.verdict in (Verdict.DEAD, Verdict.GONE):
            metrics.WEBHOOK_DEAD.inc()
        _say(due, outcome, seconds)
        return outcome

    def _post(self, due: Due) -> Answer:
        assert due.envelope is not None
        at, body = self._clock.at(), body_of(due.envelope)
        headers = headers_of(str(due.event_id), body, due.secrets, at=at)
        seconds = self._settings.webhook_timeout_seconds
        return post(due.url, body, headers, self._rules, seconds=seconds, at=at)

    def _settle(self, lane: Lane, due: Due, outcome: Outcome, until: float, *, go_on: bool) -> Due | None:
        """Write what came of it; while PostgreSQL is away, again and again, as long as the lane is ours."""
        if outcome.verdict is Verdict.GONE:
            log.warning("a webhook is switched off: its receiver is gone", webhook_id=str(lane.webhook_id))
        while True:
            try:
                with self._database.transaction() as tx:
                    lease = self._lease_seconds
                    return delivery_claims.settle(tx, lane, due, outcome, lease_seconds=lease, go_on=go_on)
            except DatabaseUnavailable:
                if self._clock.now() + AGAIN_SECONDS >= until:
                    raise
                gevent.sleep(AGAIN_SECONDS)

    def _keep_house(self) -> None:
        """Say now and then that somebody is here, and remove what is too old from the log."""
        now = self._clock.now()
        if now - self._noted >= NOTE_SECONDS:
            self._noted = now
            with self._database.transaction() as tx:
                workers.note_run(tx, deliveries.RUNS, gap_seconds=NOTE_SECONDS, spare_seconds=0)
        if now - self._forgot >= FORGET_SECONDS:
            self._forgot = now
            oldest = self._clock.at() - timedelta(seconds=self._settings.retention_deliveries_seconds)
            with self._database.transaction() as tx:
                gone = deliveries.forget_old(tx, oldest, limit=FORGET_ROWS)
            if gone == FORGET_ROWS:  # there is more
                self._forgot = float("-inf")


def _say(due: Due, outcome: Outcome, seconds: float) -> None:
    """Write a line about an attempt: the usual one, which went well, only for who looks for faults."""
    level = logging.DEBUG if outcome.verdict is Verdict.DELIVERED else logging.INFO
    log.log(
        level,
        "webhook attempt",
        delivery_id=str(due.id),
        event_id=str(due.event_id),
        outcome=str(outcome.verdict),
        attempt=due.attempts + 1,
        error=outcome.error,
        milliseconds=round(seconds * 1000, 1),
        request_id=None if due.envelope is None else due.envelope["request_id"],
    )
