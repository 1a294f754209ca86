"""Answers kept under the client's idempotency keys: a request that is sent again has its effect once.

The answer is written in the transaction of the effect: after a crash either both are there or neither. Requests with one key
take turns on an advisory lock that ends with the transaction, however it ends; nobody holds a connection while waiting.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from core.errors import IdempotencyInProgress, IdempotencyKeyReused
from models.tables import KeptAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from models.database import Transaction

KEPT: Final = timedelta(hours=24)
FORGOTTEN_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is to have its effect once. `scope`: the API key's identity. `fingerprint`: of what is asked for."""

    scope: str
    key: str
    fingerprint: bytes

    @property
    def lock(self) -> int:
        """Return the advisory lock that requests with this key take turns on."""
        digest = hashlib.sha256(f"{self.scope}\0{self.key}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client got, to the byte."""

    status: int
    body: str
    headers: Mapping[str, str]


def look(tx: Transaction, claim: Claim, *, at: datetime) -> Answer | None:
    """Take the turn until the transaction's end, and return the answer if the effect has happened already.

    Raises IdempotencyInProgress while another request has the turn, IdempotencyKeyReused if it asked for something else.
    """
    if not tx.scalar(select(func.pg_try_advisory_xact_lock(claim.lock))):
        raise IdempotencyInProgress
    # A statement of its own: what the last holder of the lock has committed is seen only by a later one.
    kept = tx.get(KeptAnswer, (claim.scope, claim.key))
    if kept is None or kept.created_at <= at - KEPT:
        return None
    if kept.fingerprint != claim.fingerprint:
        raise IdempotencyKeyReused
    return Answer(kept.status, kept.body, kept.headers)


def keep(tx: Transaction, claim: Claim, answer: Answer, *, at: datetime) -> None:
    """Keep the answer, in the place of an old one if there is one."""
    values = {
        "fingerprint": claim.fingerprint,
        "status": answer.status,
        "body": answer.body,
        "headers": dict(answer.headers),
        "created_at": at,
    }
    row = insert(KeptAnswer).values(scope=claim.scope, key=claim.key, **values)
    tx.execute(row.on_conflict_do_update(index_elements=["scope", "key"], set_=values))


def forget_old(tx: Transaction, *, at: datetime) -> int:
    """Remove some answers that are not kept any longer; return how many."""
    old = (
        select(KeptAnswer.scope, KeptAnswer.key)
        .where(KeptAnswer.created_at <= at - KEPT)
        .order_by(KeptAnswer.created_at)
        .limit(FORGOTTEN_AT_ONCE)
        .cte()
    )
    mine = (KeptAnswer.scope == old.c.scope) & (KeptAnswer.key == old.c.key)
    # Once more by age: one of them may just have been used anew.
    return len(
        tx.execute(
            delete(KeptAnswer).where(mine, KeptAnswer.created_at <= at - KEPT).returning(KeptAnswer.created_at)
        ).all()
    )
