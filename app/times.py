"""How times are written: ISO 8601, UTC, milliseconds, Z."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer


def iso(at: datetime) -> str:
    """Return an aware time as the HTTP contract spells it."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


Instant = Annotated[datetime, PlainSerializer(iso, return_type=str)]
