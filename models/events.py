"""What can happen that others want to know: event kinds and the envelope they travel in. Plain Python.

Writing events is `models.outbox`; publishing them is `streams.mirror`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from models.lifecycle import Status

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class EventKind(StrEnum):
    """Names as the HTTP contract and the NATS subjects spell them."""

    SESSION_CREATED = "session.created"
    SESSION_STARTED = "session.started"
    SESSION_STATUS_CHANGED = "session.status_changed"
    SESSION_INPUT = "session.input"
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
    payload: dict[str, Any] = field(default_factory=dict)
