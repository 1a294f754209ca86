"""What waits to be sent to webhooks: put into their queues from the outbox, again on demand; and the log of it all.

A queue has lanes, one for each session: within one, deliveries go in the order of events, one at a time; lanes do not wait for
one another. Sending is `models.delivery_claims`'s.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on, insert

from core.ids import uuid7
from models import feed
from models.events import Position
from models.feed import Wanted
from models.tables import Event, Webhook, WebhookCursor, WebhookDelivery, WebhookLane

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Row

    from models.database import Transaction

PING: Final = "webhook.ping"
NO_SESSION: Final = UUID(int=0)
"""The lane of events that are of no session."""
MOST_A_STEP: Final = 500
NO_SYNC: Final[Mapping[str, Any]] = {"synchronize_session": False}


def queue_news(tx: Transaction, *, limit: int = MOST_A_STEP) -> int:
    """Put the next events into the queues of those who want them; return how many were looked at.

    One process at a time; whoever comes while another is at it has nothing to do.
    """
    cursor = tx.scalar(select(WebhookCursor).with_for_update(skip_locked=True))
    if cursor is None:
        return 0
    news = feed.read(tx, Position(cursor.transaction, cursor.position), limit=limit)
    if news:
        owners = {row.owner for row in news}
        wanting = select(Webhook).where(Webhook.active, Webhook.owner.in_(owners)).order_by(Webhook.id)
        for webhook in tx.scalars(wanting.with_for_update(key_share=True)):
            since = Position(webhook.since_transaction, webhook.since_position)
            _queue(tx, webhook, [row for row in news if row.owner == webhook.owner and feed.position(row) > since])
        cursor.transaction, cursor.position = news[-1].transaction, news[-1].position
    return len(news)


def queue_again(tx: Transaction, webhook: Webhook, start: UUID, *, limit: int) -> tuple[int, UUID | None]:
    """Queue the events a locked webhook wants, from this one on, whether or not they were delivered once.

    Return how many, and the event to go on from if that is not all. Raises LookupError: its owner has no such event (any more).
    """
    mine = select(Event.transaction, Event.position).where(Event.id == start, Event.owner == webhook.owner)
    place = tx.execute(mine).one_or_none()
    if place is None:
        raise LookupError
    wanted = Wanted(owner=webhook.owner, kinds=webhook.event_types)
    rows = feed.read(tx, Position(place.transaction, place.position - 1), wanted, limit=limit + 1)
    for first in range(0, min(len(rows), limit), MOST_A_STEP):
        _queue(tx, webhook, rows[first : min(first + MOST_A_STEP, limit)], again=True)
    return min(len(rows), limit), rows[limit].id if len(rows) > limit else None


def queue_ping(tx: Transaction, webhook: Webhook) -> WebhookDelivery:
    """Queue a ping for a locked webhook. In a lane of its own: it waits for nothing."""
    own = uuid7()
    values = {"id": own, "webhook_id": webhook.id, "lane": own, "event_id": uuid7(), "event_type": PING}
    places = {"transaction": 0, "position": 0, "queued_at": func.now()}
    tx.execute(insert(WebhookDelivery).values(**values, **places))
    first = func.now() - timedelta(days=1)  # the longest due goes first
    tx.execute(insert(WebhookLane).values(webhook_id=webhook.id, lane=own, due_at=first))
    return tx.get_one(WebhookDelivery, own)


def _queue(tx: Transaction, webhook: Webhook, news: Sequence[Row[Any]], *, again: bool = False) -> None:
    wanted = [row for row in news if row.event_type in webhook.event_types]
    ids = sorted(uuid7() for _ in wanted)  # those of one millisecond, too: the log is in the order of events
    rows = [
        {
            "id": own,
            "webhook_id": webhook.id,
            "lane": row.session_id or NO_SESSION,
            "event_id": row.id,
            "event_type": row.event_type,
            "session_id": row.session_id,
            "transaction": row.transaction,
            "position": row.position,
            "queued_at": func.now(),
        }
        for own, row in zip(ids, wanted, strict=True)
    ]
    if not rows:
        return
    new = insert(WebhookDelivery).values(rows)
    # An event may be there already: somebody asked for it again before its turn came.
    same = [WebhookDelivery.webhook_id, WebhookDelivery.event_id]
    tx.execute(
        new.on_conflict_do_update(index_elements=same, set_=ANEW)
        if again
        else new.on_conflict_do_nothing(index_elements=same)
    )
    _open_lanes(tx, webhook.id, {row["lane"] for row in rows}, at_once=again)


ANEW: Final[Mapping[str, Any]] = {
    "status": "pending",
    "attempts": 0,
    "queued_at": func.now(),
    "response_status": None,
    "error": None,
    "ended_at": None,
}


def _open_lanes(tx: Transaction, webhook_id: UUID, lanes: Collection[UUID], *, at_once: bool = False) -> None:
    """Make sure that lanes are looked at. `at_once`: also those that wait for their next attempt."""
    opened = insert(WebhookLane).values(
        [{"webhook_id": webhook_id, "lane": lane, "due_at": func.now()} for lane in lanes]
    )
    same = [WebhookLane.webhook_id, WebhookLane.lane]
    if at_once:
        tx.execute(opened.on_conflict_do_update(index_elements=same, set_={"due_at": func.now()}))
    else:
        tx.execute(opened.on_conflict_do_nothing(index_elements=same))


def begin_anew(tx: Transaction, webhook_id: UUID) -> None:
    """Let everything that waits for a webhook be tried at once, and for as long as if it were new: it was off, or elsewhere."""
    waiting = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.status == "pending")
    tx.execute(update(WebhookDelivery).where(*waiting).values(attempts=0, queued_at=func.now()), **_options())
    tx.execute(update(WebhookLane).where(WebhookLane.webhook_id == webhook_id).values(due_at=func.now()), **_options())


def _options() -> dict[str, Any]:
    return {"execution_options": NO_SYNC}


# The log.


def log_page(
    tx: Transaction, webhook_id: UUID, status: str | None, *, limit: int, before: UUID | None = None
) -> tuple[list[tuple[WebhookDelivery, datetime | None]], bool]:
    """Return deliveries, newest first, each with the time of its next attempt if it is its lane's turn; and whether more follow."""
    of_lane = (WebhookLane.webhook_id == WebhookDelivery.webhook_id) & (WebhookLane.lane == WebhookDelivery.lane)
    wanted = select(WebhookDelivery, WebhookLane.due_at).outerjoin(
        WebhookLane, of_lane & (WebhookDelivery.status == "pending")
    )
    wanted = wanted.where(WebhookDelivery.webhook_id == webhook_id)
    if status is not None:
        wanted = wanted.where(WebhookDelivery.status == status)
    if before is not None:
        wanted = wanted.where(WebhookDelivery.id < before)
    rows = tx.execute(wanted.order_by(WebhookDelivery.id.desc()).limit(limit + 1)).all()
    heads = _heads(tx, webhook_id, {delivery.lane for delivery, due in rows if due is not None})
    found = [(delivery, due if delivery.id in heads else None) for delivery, due in rows[:limit]]
    return found, len(rows) > limit


def _heads(tx: Transaction, webhook_id: UUID, lanes: Collection[UUID]) -> set[UUID]:
    """Return the first delivery that waits in each lane."""
    if not lanes:
        return set()
    order = (WebhookDelivery.lane, WebhookDelivery.transaction, WebhookDelivery.position)
    first = select(WebhookDelivery.id).ext(distinct_on(WebhookDelivery.lane)).order_by(*order)
    waiting = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.status == "pending")
    return set(tx.scalars(first.where(*waiting, WebhookDelivery.lane.in_(lanes))))


_LOOK = text("""
    SELECT (SELECT count(*) FROM webhooks WHERE active),
        (SELECT count(*) FROM webhooks WHERE active AND failures > 0),
        (SELECT count(*) FROM (SELECT FROM webhook_deliveries WHERE status = 'pending' LIMIT :most) AS waiting),
        (SELECT COALESCE(EXTRACT(EPOCH FROM now() - min(ran_at)), -1) FROM housekeeping WHERE name = :name),
        (SELECT COALESCE(GREATEST(0, EXTRACT(EPOCH FROM now() - min(at))), 0) FROM (
            SELECT at FROM events
            WHERE (transaction, position) > (SELECT c.transaction, c.position FROM webhook_cursor c)
            ORDER BY transaction, position LIMIT 1
        ) AS next)
""")
RUNS: Final = "webhooks"
MOST_COUNTED: Final = 100_000


def look(tx: Transaction) -> Mapping[str, float]:
    """Return how webhooks are.

    `waiting`: up to MOST_COUNTED; `silent_seconds`: since a deliverer was there, -1 for never; `lag_seconds`: of the oldest event
    that is in no queue yet.
    """
    values = tx.execute(_LOOK, {"most": MOST_COUNTED, "name": RUNS}).one()
    return dict(zip(("active", "failing", "waiting", "silent_seconds", "lag_seconds"), map(float, values), strict=True))


def forget_old(tx: Transaction, older_than: datetime, *, limit: int) -> int:
    """Remove what was queued before that time, the oldest first; return how many."""
    oldest = select(WebhookDelivery.id).where(WebhookDelivery.queued_at < older_than)
    chosen = oldest.order_by(WebhookDelivery.queued_at).limit(limit).with_for_update(skip_locked=True)
    gone = tx.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(chosen)), **_options())
    return int(gone.rowcount)  # type: ignore[attr-defined]
