"""Webhooks: made, found, listed, changed, removed. What is sent to them, and when, is `models.deliveries`.

Whoever writes to a webhook or to its queue takes the webhook's row first (`locked`). So nobody waits for one another in a circle,
and what is looked at afterwards is not about to change.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import undefer

from core.errors import TooManyWebhooks, WebhookNotFound
from core.ids import uuid7
from models import feed
from models.tables import Webhook

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction

SECRET_BYTES: Final = 32
MOST_OF_AN_OWNER: Final = 50
SECRETS_OVERLAP: Final = timedelta(hours=24)
"""How long deliveries are signed with the secret before the last change, too."""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook as somebody asks for it, checked. `secret` None: a random one is made."""

    owner: str
    created_by: str
    url: str
    event_types: Collection[str]
    description: str | None = None
    active: bool = True
    secret: bytes | None = None


def new_secret() -> bytes:
    """Return a random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def create(tx: Transaction, new: NewWebhook, *, at: datetime) -> Webhook:
    """Write a new webhook: it gets what happens from here on. Raises TooManyWebhooks."""
    # One at a time for an owner, or two at once would both find room.
    tx.execute(text("SELECT pg_advisory_xact_lock(hashtext('webhooks of'), hashtext(:owner))"), {"owner": new.owner})
    count = tx.scalar(select(func.count()).select_from(Webhook).where(Webhook.owner == new.owner)) or 0
    if count >= MOST_OF_AN_OWNER:
        raise TooManyWebhooks(f"There are {MOST_OF_AN_OWNER} webhooks already: remove one first.")
    since = feed.end(tx)
    row = Webhook(
        id=uuid7(),
        owner=new.owner,
        url=new.url,
        event_types=sorted(new.event_types),
        description=new.description,
        active=new.active,
        secret=new.secret or new_secret(),
        since_transaction=since.transaction,
        since_position=since.number,
        created_at=at,
        created_by=new.created_by,
        updated_at=at,
        failures=0,
    )
    tx.add(row)
    tx.flush()
    return row


def visible(tx: Transaction, webhook_id: UUID, owner: str | None) -> Webhook:
    """Return a webhook this owner may see (None sees every one's). Raises WebhookNotFound."""
    row = tx.get(Webhook, webhook_id)
    if row is None or (owner is not None and row.owner != owner):
        raise WebhookNotFound
    return row


def locked(tx: Transaction, webhook_id: UUID, owner: str | None) -> Webhook:
    """Return the same, with its row locked and its secret at hand. Raises WebhookNotFound."""
    wanted = select(Webhook).where(Webhook.id == webhook_id)
    row = tx.scalar(wanted.options(undefer(Webhook.secret)).with_for_update(key_share=True))
    if row is None or (owner is not None and row.owner != owner):
        raise WebhookNotFound
    return row


def page(tx: Transaction, owner: str | None, *, limit: int, before: UUID | None = None) -> tuple[list[Webhook], bool]:
    """Return webhooks, newest first, those older than `before`; and whether more follow."""
    wanted = select(Webhook).order_by(Webhook.id.desc()).limit(limit + 1)
    if owner is not None:
        wanted = wanted.where(Webhook.owner == owner)
    if before is not None:
        wanted = wanted.where(Webhook.id < before)
    found = list(tx.scalars(wanted))
    return found[:limit], len(found) > limit


def change(tx: Transaction, row: Webhook, changes: Mapping[str, Any], *, at: datetime) -> bool:
    """Change a locked webhook; return whether what waits for it is to begin anew: it was off, or elsewhere.

    One that is switched on again gets what happens from here on, and what was waiting.
    """
    wakes = bool(changes.get("active")) and not row.active
    anew = wakes or changes.get("url", row.url) != row.url
    for name, value in changes.items():
        if name == "secret":
            row.previous_secret, row.previous_until = row.secret, at + SECRETS_OVERLAP
        setattr(row, name, value)
    row.updated_at = at
    if wakes:
        since = feed.end(tx)
        row.since_transaction, row.since_position = since.transaction, since.number
        row.disabled_reason = None
    if anew:
        row.failures, row.proven, row.resting_until = 0, False, None
    tx.flush()
    return anew


def remove(tx: Transaction, row: Webhook) -> None:
    """Remove a locked webhook, with its queue and its log. What is under way meanwhile may still arrive."""
    tx.execute(delete(Webhook).where(Webhook.id == row.id).execution_options(synchronize_session=False))
