"""Waiting for something in a session's log on a client's behalf: from which position, until when, and what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from app.conditions import Becomes, Exits, FallsQuiet, Prints
from app.following import following
from core.errors import InvalidPosition
from models import segments, sessions
from models.lifecycle import Status
from streams import output
from streams.match import Search

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from app.conditions import Condition
    from app.following import Following
    from app.web import Web
    from models.tables import Session
    from streams.match import Found, Needle


@dataclass(frozen=True, slots=True)
class Standing:
    """A session as it is when a wait begins. `stored`: seq of the last entry in PostgreSQL, and where the output ends there."""

    session: Session
    stored: tuple[int, int]
    began: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a wait. `next_offset`: where the next one has to begin."""

    matched: bool
    found: Found | None
    next_offset: int
    status: str


def standing(web: Web, session_id: UUID, owner: str | None) -> Standing:
    """Return a session as it is now. Raises SessionNotFound."""
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, owner)
        return Standing(session, segments.last(tx, session_id), web.clock.now())


def until_exit(web: Web, now: Standing, seconds: float) -> Outcome:
    """Wait for a session's end."""
    return _wait(web, now, seconds, now.stored[0], Exits(now.stored[1]))


def until_status(web: Web, now: Standing, seconds: float, wanted: list[Status]) -> Outcome:
    """Wait until a session has one of these statuses, or had one for a moment."""
    head = web.log.head(now.session.id)
    condition = Becomes(wanted, Status(now.session.status), head, now.stored)
    return _wait(web, now, seconds, now.stored[0], condition)


def until_quiet(web: Web, now: Standing, seconds: float, quiet_seconds: float) -> Outcome:
    """Wait until a session has printed nothing for so long."""
    running = now.session.status != Status.INITIALIZING
    condition = FallsQuiet(quiet_seconds, running=running, end=now.stored[1], now=now.began)
    return _wait(web, now, seconds, now.stored[0], condition)


def until_printed(web: Web, now: Standing, seconds: float, needle: Needle, from_offset: int) -> Outcome:
    """Wait until something stands in the output from a byte on. Raises InvalidPosition, OutputExpired."""
    session = now.session
    if session.ended_at is not None and from_offset > session.output_bytes:
        raise InvalidPosition
    after = output.seq_before(web.log, session.id, from_offset)
    if session.ended_at is not None:
        output.refuse_gone(web.log, session.id, from_offset)
    look = partial(web.searches.look, deadline=now.began + seconds)
    return _wait(web, now, seconds, after, Prints(Search(needle, from_offset), look))


def _wait(web: Web, now: Standing, seconds: float, after: int, condition: Condition) -> Outcome:
    with following(web, now.session, after) as log:
        matched = _comes_true(web.clock.now, log, condition, now.began + seconds)
    with web.database.transaction() as tx:
        status = sessions.visible(tx, now.session.id, None).status
    return Outcome(matched, condition.found, condition.next_offset, condition.status or status)


def _comes_true(now: Callable[[], float], log: Following, condition: Condition, deadline: float) -> bool:
    """Show the condition the log until it is true, the log ends, or the time is over."""
    while (left := deadline - now()) > 0 and not log.leaving:
        reading = log.next(min(left, condition.patience(now())), condition.wants_bytes)
        if condition.see(reading, now()):
            return True
        if reading.ended:
            return False
    return False
