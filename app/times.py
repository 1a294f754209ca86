"""How times are written: ISO 8601, UTC, milliseconds, Z. And how they are read: ISO 8601, without a zone as UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer


def iso(at: datetime) -> str:
    """Return an aware time as the HTTP contract spells it."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]


def moment(text: Any) -> datetime:
    """Return the time a parameter spells. Raises ValueError."""
    try:
        # The + of a zone is a blank in a URL, unless somebody thought of writing %2B.
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time like 2025-08-08T07:15:00.000Z") from None


Moment = Annotated[datetime, BeforeValidator(moment)]
