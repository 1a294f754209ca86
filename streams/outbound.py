"""What the mirror sends, and in which order: the outbox, and, where that is wanted, what sessions print.

Bounded: some hundred rows, some megabytes of output, are all that is in memory; the rest waits in PostgreSQL.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from core import metrics
from models import feed, mirroring
from models.events import BEGINNING, EventKind
from streams import envelopes
from streams.entries import unpack_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from sqlalchemy import Row

    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database, Transaction
    from streams.envelopes import Message
    from streams.jetstream import JetStream

    T = TypeVar("T")

log = structlog.get_logger(__name__)

ROWS: Final = 500
FLIGHT_BYTES: Final = 2 * 1024 * 1024
"""So much is sent before acknowledgements are waited for."""
SEGMENTS: Final = 16
FIRST: Final = UUID(int=0)
RETRY_SECONDS: Final = 0.1


class Outbound:
    """Sends what is not sent yet. It remembers how often NATS has refused what, and whose output was last."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._prefix = settings.nats_subject_prefix
        self._tries = settings.nats_publish_tries
        self._with_output = settings.nats_mirror_output
        self._database = database
        self._clock = clock
        self._refusals: dict[str, int] = {}
        self._behind = FIRST
        self.published = 0
        """Events that NATS has, since the process began."""

    async def events(self, link: JetStream) -> int:
        """Publish the next events and mark them; return how many. Raises NatsAway, DatabaseUnavailable."""
        rows = await self._asked(lambda tx: feed.read(tx, BEGINNING, limit=ROWS, unpublished=True))
        if self._with_output and rows:
            new = [row.session_id for row in rows if row.event_type == EventKind.SESSION_CREATED]
            if new:
                await self._asked(lambda tx: mirroring.output_of(tx, new))
        messages = [envelopes.of_event(self._prefix, row) for row in rows]
        done = 0
        while done < len(rows):
            flight = first_flight(messages, done)
            outcome = await link.publish(flight)
            if outcome.acknowledged:
                await self._mark(rows[done : done + outcome.acknowledged])
                done += outcome.acknowledged
            if outcome.refused is not None and await self._give_up(link, messages[done], outcome.refused):
                await self._bury(rows[done], outcome.refused)
                done += 1
        return done

    async def output(self, link: JetStream) -> int:
        """Publish the next segments of some sessions and note it; return how many. Raises NatsAway, DatabaseUnavailable."""
        segments = await self._asked(lambda tx: mirroring.next_output(tx, self._behind, limit=SEGMENTS))
        is_round = len(segments) < SEGMENTS and self._behind != FIRST
        self._behind = FIRST if len(segments) < SEGMENTS else segments[-1].session_id
        moved = {}
        for segment in segments:
            entries = [
                entry for entry in unpack_all(segment.entries) if entry.is_output and entry.seq > segment.last_seq
            ]
            await self._sent(link, [envelopes.of_output(self._prefix, segment.session_id, entry) for entry in entries])
            moved[segment.session_id] = segment.segment_end
        if moved or is_round:
            await self._asked(lambda tx: mirroring.output_moved(tx, moved))
        return len(moved) + is_round

    async def _sent(self, link: JetStream, messages: Sequence[Message]) -> None:
        """Publish messages that have no row of their own."""
        done = 0
        while done < len(messages):
            outcome = await link.publish(first_flight(messages, done))
            metrics.EVENTS_PUBLISHED.labels("output").inc(outcome.acknowledged)
            done += outcome.acknowledged
            if outcome.refused is not None and await self._give_up(link, messages[done], outcome.refused):
                done += 1

    # One that NATS refuses.

    async def _give_up(self, link: JetStream, message: Message, why: str) -> bool:
        """Whether a message was refused too often; then it is with the dead letters."""
        tries = self._refusals[message.id] = self._refusals.get(message.id, 0) + 1
        if tries < self._tries:
            await asyncio.sleep(RETRY_SECONDS)
            return False
        letter = envelopes.dead(self._prefix, message, why, tries, link.max_bytes)
        outcome = await link.bury(letter)
        del self._refusals[message.id]
        metrics.EVENTS_DEAD.inc()
        about = {"event_id": message.id, "request_id": message.headers.get("Request-Id")}
        log.error("an event went to the dead letters", subject=message.subject, why=why, **about)
        if outcome.refused is not None:  # the row still says so, and can be published again
            log.error("the dead letters refuse it, too", why=outcome.refused, **about)
        return True

    async def _bury(self, row: Row[Any], why: str) -> None:
        await self._asked(lambda tx: mirroring.bury(tx, row.id, why, at=self._clock.at()))

    # What PostgreSQL does.

    async def _mark(self, rows: Sequence[Row[Any]]) -> None:
        at = self._clock.at()
        await self._asked(lambda tx: mirroring.mark(tx, [row.id for row in rows], at=at))
        self.published += len(rows)
        metrics.EVENTS_PUBLISHED.labels("event").inc(len(rows))
        for row in rows:
            metrics.MIRROR_LAG_SECONDS.observe(max(0.0, (at - row.at).total_seconds()))

    async def _asked(self, ask: Callable[[Transaction], T]) -> T:
        """Ask in a thread: this loop has acknowledgements to take."""

        def asked() -> T:
            with self._database.transaction() as tx:
                return ask(tx)

        return await asyncio.to_thread(asked)


def first_flight(messages: Sequence[Message], start: int) -> Sequence[Message]:
    """Return the messages from `start` on that are sent at once."""
    size = 0
    for end in range(start, len(messages)):
        size += messages[end].size
        if size > FLIGHT_BYTES and end > start:
            return messages[start:end]
    return messages[start:]
