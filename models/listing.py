"""Finding sessions: filters, pages, and how many there are in all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select

from core.ids import first_of
from models.tables import Session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement

    from models.database import Transaction
    from models.lifecycle import Status

MADE_WITHIN: Final = timedelta(hours=1)
"""An id is made after the request came, and clocks may jump: so far at most its time is from `created_at`."""


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """What is looked for. `owner` None means every owner's, no `statuses` any. `before`: the last one of the page before."""

    owner: str | None
    user_id: str | None = None
    statuses: Collection[Status] = ()
    program: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    before: UUID | None = None
    limit: int = 100


def page(tx: Transaction, query: SessionQuery) -> tuple[list[Session], bool]:
    """Return the sessions of one page, newest first, and whether more follow."""
    wanted = select(Session).where(*_filters(query)).order_by(Session.id.desc()).limit(query.limit + 1)
    if query.before is not None:
        wanted = wanted.where(Session.id < query.before)
    found = list(tx.scalars(wanted))
    return found[: query.limit], len(found) > query.limit


def count(tx: Transaction, query: SessionQuery) -> int:
    """Return how many there are, on all pages."""
    return tx.scalar(select(func.count()).select_from(Session).where(*_filters(query))) or 0


def _filters(query: SessionQuery) -> Iterator[ColumnElement[bool]]:
    for column, value in (
        (Session.owner, query.owner),
        (Session.user_id, query.user_id),
        (Session.program, query.program),
    ):
        if value is not None:
            yield column == value
    if query.statuses:
        yield Session.status.in_(query.statuses)
    for name, text in query.metadata.items():
        yield or_(*(Session.metadata_.contains({name: value}) for value in _meant(text)))
    # Ids are ordered by time: with a bound on them only that stretch is looked at, whatever the history.
    if query.created_after is not None:
        yield Session.created_at > query.created_after
        yield Session.id >= first_of(_shifted(query.created_after, -MADE_WITHIN))
    if query.created_before is not None:
        yield Session.created_at < query.created_before
        yield Session.id < first_of(_shifted(query.created_before, MADE_WITHIN))


def _meant(text: str) -> Iterator[Any]:
    """Yield what a value in a URL may stand for: the text itself, and the number, boolean or null it spells."""
    yield text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        yield value


def _shifted(at: datetime, by: timedelta) -> datetime:
    try:
        return at + by
    except OverflowError:  # the first or the last hour there is
        return at
