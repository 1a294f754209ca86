"""What can happen that others want to know: event kinds and the envelope they travel in. Plain Python.

Writing events is `models.outbox`, reading them `models.feed`; publishing them is `streams.mirror`. What each kind's payload
holds is `models.payloads`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypedDict

from models.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


class EventKind(StrEnum):
    """Names as the HTTP contract and the NATS subjects spell them."""

    SESSION_CREATED = "session.created"
    SESSION_STARTED = "session.started"
    SESSION_STATUS_CHANGED = "session.status_changed"
    SESSION_INPUT = "session.input"
    SESSION_REQUEST = "session.request"
    SESSION_RESTARTED = "session.restarted"
    SESSION_COMPLETED = "session.completed"
    SESSION_TERMINATED = "session.terminated"
    SESSION_FAILED = "session.failed"
    WORKER_LOST = "worker.lost"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATED = "key.rotated"


ENDINGS: Final = {
    Status.COMPLETED: EventKind.SESSION_COMPLETED,
    Status.TERMINATED: EventKind.SESSION_TERMINATED,
    Status.FAILED: EventKind.SESSION_FAILED,
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who caused a change: the name of an API key (or of a process of ours) and the request it came with."""

    actor: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it is written; the outbox adds id and position."""

    kind: EventKind
    owner: str
    at: datetime
    origin: Origin
    session_id: UUID | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """An event's place in the order of all events: that in which transactions can be told to be over.

    Spelled with a fixed width, so that texts are ordered as the places are. Clients take it as it is.
    """

    transaction: int
    number: int

    def __str__(self) -> str:
        """Spell it, as clients see it."""
        return f"{self.transaction:012x}-{self.number:012x}"

    @classmethod
    def read(cls, text: str) -> Position:
        """Read what was spelled. Raises ValueError."""
        found = SPELLED.fullmatch(text)
        place = cls(int(found[1], 16), int(found[2], 16)) if found else None
        if place is None or max(place.transaction, place.number) >= 2**63:
            raise ValueError("is not a position of an event")
        return place


SPELLED: Final = re.compile(r"([0-9a-f]{12,16})-([0-9a-f]{12,16})")
BEGINNING: Final = Position(-1, 0)
"""Before every event."""


class Envelope(TypedDict):
    """What an event looks like to everybody: NATS, webhooks, the API. The same members for every kind."""

    event_type: str
    session_id: str | None
    event_id: str
    position: str | None
    payload: Mapping[str, Any]
    timestamp: str
    request_id: str | None
    actor: str | None
