"""Writing audit rows. Sealing them into a chain is housekeeping's, reading them the API's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from models.tables import AuditRow

if TYPE_CHECKING:
    from datetime import datetime

    from models.database import Transaction


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing somebody did or tried. `address` is the client's, `target` the id of what it was done to."""

    actor: str
    action: str
    outcome: str
    at: datetime
    owner: str | None = None
    target: str | None = None
    address: str | None = None
    request_id: str | None = None
    detail: dict[str, Any] | None = None


def record(tx: Transaction, deed: Deed) -> None:
    """Write one audit row in the transaction of the deed."""
    tx.execute(
        insert(AuditRow).values(
            actor=deed.actor,
            action=deed.action,
            outcome=deed.outcome,
            at=deed.at,
            owner=deed.owner,
            target=deed.target,
            address=deed.address,
            request_id=deed.request_id,
            detail=deed.detail,
        )
    )
