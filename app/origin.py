"""Who did it, in the words of audit and event rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003  (kept beside the signature it belongs to)

from flask import request

from app import request_id
from app.auth import current_caller
from models import audit
from models.audit import Deed
from models.events import Origin

if TYPE_CHECKING:
    from datetime import datetime

    from models.database import Transaction


def origin() -> Origin:
    """Return the key and the request that cause a change."""
    return Origin(current_caller().key_name, request_id.current())


def note(tx: Transaction, action: str, target: UUID, *, at: datetime, detail: dict[str, Any] | None = None) -> None:
    """Write the audit row of this request, in the transaction of what it did."""
    caller = current_caller()
    deed = Deed(
        actor=caller.key_name,
        action=action,
        outcome="ok",
        at=at,
        owner=caller.owner,
        target=str(target),
        address=request.remote_addr,
        request_id=request_id.current(),
        detail=detail,
    )
    audit.record(tx, deed)
