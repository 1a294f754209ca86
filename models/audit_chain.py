"""The chain of seals over audit rows: whoever changes, removes or slips in a sealed row breaks it, and the place is found.

A row's seal is the sha256 of the seal before it and of the row's own bytes. Rows are sealed some seconds after they were
written, by housekeeping alone, in the order of their ids, and numbered without holes (`position`): ids have holes where a
transaction was rolled back, positions only where a row was removed. A row is sealed when every transaction is over that might
still bring a smaller id; requests never wait for any of it.

*Anchors* are points of the chain kept beside it: its head, without which removing the last rows would not show; every
ANCHOR_EVERY-th; and the *cut*, the last one that retention removed. Somebody who can write to both tables can forge both:
what is logged of the chain, elsewhere, is the proof against that. Verifying is `models.audit_proof`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Text, cast, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from models.tables import AuditAnchor, AuditRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row

    from models.database import Transaction

GENESIS: Final = bytes(32)
"""What the first seal follows."""
BATCH: Final = 1000
ANCHOR_EVERY: Final = 1000


class Link(NamedTuple):
    """A point of the chain: a row's place, its id, its seal."""

    position: int
    audit_id: int
    seal: bytes


START: Final = Link(0, 0, GENESIS)


@dataclass(frozen=True, slots=True)
class Mark:
    """Rows up to `audit_id` were there, or under way in transactions older than `transaction`."""

    audit_id: int
    transaction: int


# jsonb as PostgreSQL writes it: numbers keep every digit, which Python's floats would not.
COLUMNS: Final = (
    AuditRow.position,
    AuditRow.id,
    AuditRow.at,
    AuditRow.actor,
    AuditRow.key_id,
    AuditRow.owner,
    AuditRow.action,
    AuditRow.target,
    AuditRow.outcome,
    AuditRow.address,
    AuditRow.request_id,
    cast(AuditRow.detail, Text).label("detail"),
    AuditRow.seal,
)


def seal_of(before: bytes, position: int, row: Row[*tuple[Any, ...]]) -> bytes:
    """Return the seal of a row at a place behind another seal."""
    told = [
        position,
        row.id,
        row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        row.actor,
        None if row.key_id is None else str(row.key_id),
        row.owner,
        row.action,
        row.target,
        row.outcome,
        row.address,
        row.request_id,
        row.detail,
    ]
    return hashlib.sha256(before + json.dumps(told, ensure_ascii=True).encode()).digest()


# Sealing.


def mark(tx: Transaction) -> Mark | None:
    """Return how far rows may be sealed once all of today's transactions are over; None if there is nothing to seal.

    The id first, then a transaction of our own: whoever holds a smaller id has an older transaction (`audit.record`).
    """
    newest = tx.scalar(select(func.max(AuditRow.id)).where(AuditRow.seal.is_(None)))
    if newest is None or newest <= head(tx).audit_id:
        return None
    return Mark(newest, tx.scalar(text("SELECT pg_current_xact_id()::text::bigint")) or 0)


def is_settled(tx: Transaction, wanted: Mark) -> bool:
    """Whether all transactions are over that were under way when the mark was made."""
    oldest = tx.scalar(text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")) or 0
    return oldest >= wanted.transaction


def head(tx: Transaction) -> Link:
    """Return the end of the chain."""
    newest = tx.scalars(select(AuditAnchor).order_by(AuditAnchor.position.desc()).limit(1)).first()
    return START if newest is None else Link(newest.position, newest.audit_id, newest.seal)


_SEAL = text("""
    UPDATE audit SET position = told.position, seal = told.seal
    FROM unnest(CAST(:ids AS bigint[]), CAST(:positions AS bigint[]), CAST(:seals AS bytea[])) AS told(id, position, seal)
    WHERE audit.id = told.id
""")


def seal(tx: Transaction, up_to: Mark, *, at: datetime, limit: int = BATCH) -> tuple[int, Link]:
    """Seal the next rows up to a mark that is settled; return how many, and the chain's new end.

    One at a time: the caller holds a lock. A row that appears behind the head with a smaller id is left alone: no
    transaction of ours can have brought it, and `verify` names it.
    """
    before = last = head(tx)
    rows = tx.execute(
        select(*COLUMNS)
        .where(AuditRow.seal.is_(None), AuditRow.id > before.audit_id, AuditRow.id <= up_to.audit_id)
        .order_by(AuditRow.id)
        .limit(limit)
    ).all()
    # A row with a forged place behind the head must not stop the chain for ever: it is stepped over.
    position = max(before.position, tx.scalar(select(func.max(AuditRow.position))) or 0)
    links: list[Link] = []
    for row in rows:
        position += 1
        last = Link(position, row.id, seal_of(last.seal, position, row))
        links.append(last)
    if links:
        _write(tx, links, at=at)
    return len(links), last


def _write(tx: Transaction, links: Sequence[Link], *, at: datetime) -> None:
    values = {
        "ids": [link.audit_id for link in links],
        "positions": [link.position for link in links],
        "seals": [link.seal for link in links],
    }
    tx.execute(_SEAL, values)
    tx.execute(delete(AuditAnchor).where(AuditAnchor.cut.is_(False), _passing))
    for link in links:
        if link is links[-1] or link.position % ANCHOR_EVERY == 0:
            _anchor(tx, link, cut=False, at=at)


_passing = AuditAnchor.position % ANCHOR_EVERY != 0


def _anchor(tx: Transaction, link: Link, *, cut: bool, at: datetime) -> None:
    row = insert(AuditAnchor).values(
        position=link.position, audit_id=link.audit_id, seal=link.seal, cut=cut, sealed_at=at
    )
    # Retention may cut where there is an anchor already.
    tx.execute(row.on_conflict_do_update(index_elements=[AuditAnchor.position], set_={"cut": AuditAnchor.cut | cut}))


# Retention.


def expire(tx: Transaction, older_than: datetime, *, at: datetime, limit: int = BATCH) -> int:
    """Remove the beginning of the chain, rows older than a time, and keep an anchor of the cut. Return how many."""
    oldest = (
        select(AuditRow.position, AuditRow.id, AuditRow.seal, AuditRow.at)
        .where(AuditRow.position.is_not(None))
        .order_by(AuditRow.position)
        .limit(limit)
    )
    old = list(takewhile(lambda row: row.at < older_than, tx.execute(oldest)))
    if not old:
        return 0
    last = Link(old[-1].position, old[-1].id, old[-1].seal)
    tx.execute(delete(AuditRow).where(AuditRow.position <= last.position))
    tx.execute(delete(AuditAnchor).where(AuditAnchor.cut, AuditAnchor.position < last.position, _passing))
    _anchor(tx, last, cut=True, at=at)
    return len(old)
