"""Who sends what is queued for webhooks: lanes claimed with a lease, their first delivery, and what became of it.

A lane belongs to whoever claimed it until the lease ends; whoever lost it writes nothing any more. Times are the database's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import undefer

from models import feed
from models.deliveries import NO_SYNC, PING
from models.tables import Webhook, WebhookDelivery, WebhookLane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row

    from models.database import Transaction
    from models.events import Envelope

PER_WEBHOOK: Final = 4
"""Lanes of one webhook at once; of one whose last attempt failed, one."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane that is ours: nobody else sends what is in it."""

    webhook_id: UUID
    lane: UUID
    claim: UUID


@dataclass(frozen=True, slots=True)
class Due:
    """The delivery whose turn it is in a lane, and where it goes. `secrets`: the current one first. `envelope` None: it is gone."""

    id: UUID
    event_id: UUID
    queued_at: datetime
    """If that is another when the attempt is over, somebody has asked for it once more: it stays to be sent."""
    attempts: int
    waited_seconds: float
    is_ping: bool
    envelope: Envelope | None
    url: str = field(repr=False)
    secrets: Sequence[bytes] = field(repr=False)


class Verdict(StrEnum):
    """What follows from an attempt."""

    DELIVERED = "delivered"
    AGAIN = "again"
    DEAD = "dead"
    GONE = "gone"
    """The receiver wants nothing any more: this delivery is dead, and the webhook is switched off."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went. `again_seconds`: until the next; `rest_seconds`: for which the receiver wants to hear nothing at all.

    `soon`: whether it was over in good time.
    """

    verdict: Verdict
    response_status: int | None = None
    error: str | None = None
    again_seconds: float = 0.0
    rest_seconds: float = 0.0
    soon: bool = True


_CLAIM = text("""
    UPDATE webhook_lanes AS taken
    SET claim = :claim, claimed_until = now() + make_interval(secs => :lease)
    FROM (
        SELECT lane.webhook_id, lane.lane FROM (
            SELECT w.id, CASE WHEN w.failures > 0 THEN 1 ELSE :most END - (
                SELECT count(*) FROM webhook_lanes b
                WHERE b.webhook_id = w.id AND b.claim IS NOT NULL AND b.claimed_until > now()
            ) AS room
            FROM webhooks w
            WHERE w.active AND w.proven = :proven AND (w.resting_until IS NULL OR w.resting_until <= now())
        ) AS w CROSS JOIN LATERAL (
            SELECT l.webhook_id, l.lane, l.due_at FROM webhook_lanes l
            WHERE l.webhook_id = w.id AND l.due_at <= now() AND (l.claimed_until IS NULL OR l.claimed_until <= now())
            ORDER BY l.due_at LIMIT GREATEST(w.room, 0) FOR UPDATE SKIP LOCKED
        ) AS lane ORDER BY lane.due_at LIMIT :limit
    ) AS due
    WHERE taken.webhook_id = due.webhook_id AND taken.lane = due.lane
    RETURNING taken.webhook_id, taken.lane
""")


def claim(tx: Transaction, claim_id: UUID, *, proven: bool, lease_seconds: float, limit: int) -> list[Lane]:
    """Claim lanes whose turn it is, of webhooks that are proven or of those that are not: the longest due first."""
    values = {"claim": claim_id, "lease": lease_seconds, "most": PER_WEBHOOK, "proven": proven, "limit": limit}
    return [Lane(row.webhook_id, row.lane, claim_id) for row in tx.execute(_CLAIM, values)]


def begin(tx: Transaction, lane: Lane) -> Due | None:
    """Return the first delivery of a lane that was claimed; None: there is nothing to send, and it is given back."""
    webhook = _hold(tx, lane)
    return None if webhook is None else _next(tx, lane, webhook)


def settle(tx: Transaction, lane: Lane, due: Due, outcome: Outcome, *, lease_seconds: float, go_on: bool) -> Due | None:
    """Write what became of a delivery, and return the next one of its lane if we `go_on`; else the lane is given back.

    Nothing is written if the lane is not ours any more.
    """
    webhook = _hold(tx, lane)
    if webhook is None:
        return None
    _write(tx, due, outcome)
    _judge(tx, webhook, due, outcome)
    if outcome.verdict is Verdict.AGAIN:
        _give_back(tx, lane, outcome.again_seconds)
        return None
    if not go_on:
        _close(tx, lane)
        return None
    _set(tx, lane, claimed_until=_in(lease_seconds))
    return _next(tx, lane, webhook)


def give_back(tx: Transaction, lane: Lane) -> None:
    """Let others have a lane at once."""
    if _hold(tx, lane) is not None:
        _give_back(tx, lane, 0.0)


def _hold(tx: Transaction, lane: Lane) -> Webhook | None:
    """Lock the webhook, then the lane; None: one of them is gone, or the lane somebody else's."""
    wanted = select(Webhook).where(Webhook.id == lane.webhook_id)
    secret = (undefer(Webhook.secret), undefer(Webhook.previous_secret))
    webhook = tx.scalar(wanted.options(*secret).with_for_update(key_share=True))
    ours = select(WebhookLane.lane).where(*_is(lane), WebhookLane.claim == lane.claim).with_for_update()
    return None if webhook is None or tx.scalar(ours) is None else webhook


def _next(tx: Transaction, lane: Lane, webhook: Webhook) -> Due | None:
    if not webhook.active:
        _give_back(tx, lane, 0.0)
        return None
    waiting = _waiting(lane)
    row = tx.scalar(
        select(WebhookDelivery).where(*waiting).order_by(WebhookDelivery.transaction, WebhookDelivery.position).limit(1)
    )
    if row is None:
        _close(tx, lane)
        return None
    secrets = [webhook.secret]
    now = tx.scalar(select(func.now()))
    assert now is not None
    if webhook.previous_secret is not None and webhook.previous_until is not None and now < webhook.previous_until:
        secrets.append(webhook.previous_secret)
    return Due(
        id=row.id,
        event_id=row.event_id,
        queued_at=row.queued_at,
        attempts=row.attempts,
        waited_seconds=(now - row.queued_at).total_seconds(),
        is_ping=row.event_type == PING,
        envelope=_envelope(tx, row),
        url=webhook.url,
        secrets=secrets,
    )


def _envelope(tx: Transaction, row: WebhookDelivery) -> Envelope | None:
    if row.event_type == PING:
        return {
            "event_type": PING,
            "session_id": None,
            "event_id": str(row.event_id),
            "position": None,
            "payload": {"webhook_id": str(row.webhook_id)},
            "timestamp": feed.stamp(row.queued_at),
            "request_id": None,
            "actor": None,
        }
    event = tx.execute(select(*feed.ROW).where(feed.EVENTS.c.id == row.event_id)).one_or_none()
    return None if event is None else feed.envelope(cast("Row[Any]", event))


def _write(tx: Transaction, due: Due, outcome: Outcome) -> None:
    ended = outcome.verdict is not Verdict.AGAIN
    status = {Verdict.DELIVERED: "delivered", Verdict.AGAIN: "pending"}.get(outcome.verdict, "dead")
    same = (WebhookDelivery.id == due.id, WebhookDelivery.queued_at == due.queued_at)
    written = update(WebhookDelivery).where(*same, WebhookDelivery.status == "pending")
    tx.execute(
        written.values(
            status=status,
            attempts=WebhookDelivery.attempts + 1,
            tried_at=func.now(),
            response_status=outcome.response_status,
            error=outcome.error,
            ended_at=func.now() if ended else None,
        ),
        execution_options=NO_SYNC,
    )


def _judge(tx: Transaction, webhook: Webhook, due: Due, outcome: Outcome) -> None:
    """Note how the receiver is. It has come back if it takes what it did not take before: then nobody waits for it longer."""
    if outcome.verdict is Verdict.DELIVERED:
        came_back = webhook.failures > 0 and (due.attempts > 0 or due.is_ping)
        webhook.failures, webhook.proven, webhook.resting_until = 0, outcome.soon, None
        if came_back:
            _wake(tx, webhook)
    elif due.envelope is not None:
        webhook.failures, webhook.proven = webhook.failures + 1, False
        if outcome.rest_seconds:
            webhook.resting_until = tx.scalar(select(_in(outcome.rest_seconds)))
    if outcome.verdict is Verdict.GONE:
        webhook.active, webhook.disabled_reason = False, outcome.error
    tx.flush()


def _wake(tx: Transaction, webhook: Webhook) -> None:
    sleeping = (WebhookLane.webhook_id == webhook.id, WebhookLane.due_at > func.now(), WebhookLane.claim.is_(None))
    tx.execute(update(WebhookLane).where(*sleeping).values(due_at=func.now()), execution_options=NO_SYNC)


def _close(tx: Transaction, lane: Lane) -> None:
    """Give a lane back, or do away with it if nothing waits in it. Whoever queues more has the webhook's row, as we do now."""
    if tx.scalar(select(WebhookDelivery.id).where(*_waiting(lane)).limit(1)) is not None:
        _give_back(tx, lane, 0.0)
    else:
        tx.execute(delete(WebhookLane).where(*_is(lane)), execution_options=NO_SYNC)


def _give_back(tx: Transaction, lane: Lane, seconds: float) -> None:
    _set(tx, lane, claim=None, claimed_until=None, due_at=_in(seconds))


def _set(tx: Transaction, lane: Lane, **values: Any) -> None:
    tx.execute(update(WebhookLane).where(*_is(lane)).values(**values), execution_options=NO_SYNC)


def _in(seconds: float) -> Any:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _is(lane: Lane) -> tuple[Any, ...]:
    return WebhookLane.webhook_id == lane.webhook_id, WebhookLane.lane == lane.lane


def _waiting(lane: Lane) -> tuple[Any, ...]:
    of_lane = (WebhookDelivery.webhook_id == lane.webhook_id, WebhookDelivery.lane == lane.lane)
    return *of_lane, WebhookDelivery.status == "pending"
