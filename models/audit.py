"""Writing and reading audit rows. Their chain of seals is `models.audit_chain`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, text

from models.tables import AuditRow, Session

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing somebody did or tried. `address` is the client's, `target` the id of what it was done to.

    `outcome` is "ok" or the error code of the answer.
    """

    actor: str
    action: str
    outcome: str
    at: datetime
    key_id: UUID | None = None
    owner: str | None = None
    target: str | None = None
    address: str | None = None
    request_id: str | None = None
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which rows are wanted; None: any. `before_id`: only rows with a smaller id."""

    actor: str | None = None
    owner: str | None = None
    action: str | None = None
    target: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before_id: int | None = None
    limit: int = 100


COLUMNS: Final = "at, actor, key_id, owner, action, target, outcome, address, request_id, detail"
DEED: Final = """deed(
    at timestamptz, actor text, key_id uuid, owner text, action text, target text, outcome text, address text,
    request_id text, detail jsonb
)"""
"""A deed as a record that PostgreSQL makes of its JSON."""
OF_DEED: Final = ", ".join(f"deed.{column}" for column in COLUMNS.split(", "))
MINE: Final = "mine AS MATERIALIZED (SELECT pg_current_xact_id() AS xid)"
"""The transaction's id comes first, the row's second: a row's id is taken while the row is made from what this yields.
Sealing relies on it: whoever holds an id can be seen to be under way."""

_RECORD = text(f"""
    WITH {MINE} INSERT INTO audit ({COLUMNS})
    SELECT {OF_DEED} FROM mine CROSS JOIN jsonb_to_recordset(CAST(:deeds AS jsonb)) AS {DEED}
""")  # noqa: S608  (names of ours)


def record(tx: Transaction, *deeds: Deed) -> None:
    """Write audit rows, in one statement, in the transaction of the deeds."""
    if deeds:
        tx.execute(_RECORD, {"deeds": json.dumps([asdict(deed) for deed in deeds], default=str)})


def owners_of(tx: Transaction, session_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return whose these sessions are; those that do not exist are missing."""
    found = tx.execute(select(Session.id, Session.owner).where(Session.id.in_(session_ids)))
    return {row.id: row.owner for row in found}


def list_rows(tx: Transaction, query: AuditQuery) -> list[AuditRow]:
    """Return rows, newest first."""
    wanted = select(AuditRow).order_by(AuditRow.id.desc()).limit(query.limit)
    for name in ("actor", "owner", "action", "target", "outcome", "request_id"):
        if (value := getattr(query, name)) is not None:
            wanted = wanted.where(getattr(AuditRow, name) == value)
    if query.since is not None:
        wanted = wanted.where(AuditRow.at >= query.since)
    if query.until is not None:
        wanted = wanted.where(AuditRow.at < query.until)
    if query.before_id is not None:
        wanted = wanted.where(AuditRow.id < query.before_id)
    return list(tx.scalars(wanted))
