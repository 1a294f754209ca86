"""Tickets: a key's leave to open one stream of one session, for clients that cannot send a header. Single use, half a minute.

The database's clock decides, the only one that all web processes share; only the sha256 of a ticket is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, text

from models.api_keys import digest, random_text
from models.tables import Ticket

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction

TICKET_SECONDS: Final = 30
PREFIX: Final = "jmr_ticket_"
"""Logs know it by its beginning, as they know keys (`core.redaction`)."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose leave a ticket is: a key, and which of its secrets it came in with. `key_id` None: one of the environment."""

    key_id: UUID | None
    key_name: str
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Issued:
    """A new ticket, seen this once."""

    expires_at: datetime
    ticket: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a used ticket was good for."""

    bearer: Bearer
    scopes: frozenset[str]


_ISSUE = text("""
    INSERT INTO tickets (digest, session_id, scopes, key_id, key_name, generation, expires_at)
    VALUES (:digest, :session_id, :scopes, :key_id, :key_name, :generation,
        clock_timestamp() + make_interval(secs => :seconds))
    RETURNING expires_at
""")


def issue(tx: Transaction, session_id: UUID, scopes: Collection[str], bearer: Bearer) -> Issued:
    """Write a ticket for a session that the bearer was found to see."""
    ticket = PREFIX + random_text()
    values = {
        "digest": digest(ticket.encode()),
        "session_id": session_id,
        "scopes": sorted(scopes),
        "key_id": bearer.key_id,
        "key_name": bearer.key_name,
        "generation": bearer.generation,
        "seconds": TICKET_SECONDS,
    }
    expires_at: datetime = tx.execute(_ISSUE, values).scalar_one()
    return Issued(expires_at, ticket)


def redeem(tx: Transaction, ticket: str, session_id: UUID, scope: str | None) -> Redeemed | None:
    """Use a ticket up; None if it is not good for this scope (None: any) of this session, not any more, or never was.

    One statement: of any number of requests at once, in any number of processes, one deletes the row.
    """
    used = delete(Ticket).where(
        Ticket.digest == digest(ticket.encode(errors="replace")),
        Ticket.session_id == session_id,
        Ticket.expires_at > func.clock_timestamp(),
    )
    if scope is not None:
        used = used.where(Ticket.scopes.any_() == scope)
    row = tx.execute(used.returning(Ticket.key_id, Ticket.key_name, Ticket.generation, Ticket.scopes)).first()
    if row is None:
        return None
    return Redeemed(Bearer(row.key_id, row.key_name, row.generation), frozenset(row.scopes))


def forget_expired(tx: Transaction) -> None:
    """Remove the tickets nobody used."""
    tx.execute(delete(Ticket).where(Ticket.expires_at <= func.clock_timestamp()))
