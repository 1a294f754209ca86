"""What the payload of each kind of event holds. docs/events.md and the API's description are made from this.

Members may be added; none is taken away or changes its meaning.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from models.events import EventKind


class Payload(BaseModel):
    """What every payload is: an object."""


class SessionCreated(Payload):
    """A session was asked for. It waits for a worker."""

    query: str
    user_id: str | None
    created_by: str
    program: str


class SessionStarted(Payload):
    """A session's process runs. `attempt`: 1, and one more with each restart."""

    program: str
    worker: str | None
    attempt: int


class SessionStatusChanged(Payload):
    """A live session's status is another: active, idle, waiting_input, terminating. `reason`: why it is being stopped."""

    status: str
    reason: str | None


class SessionInput(Payload):
    """Something was put into a session's mailbox: input, eof, a signal, a new size. What it says is not told."""

    input_id: str
    input_seq: int
    kind: str
    bytes: int


class SessionRequest(Payload):
    """A session's program waits for a decision. What it wants to do in full is shown to who may read the session."""

    request_id: str
    kind: str
    tool: str
    description: str | None


class SessionRestarted(Payload):
    """A session whose worker was lost begins again elsewhere."""

    attempt: int
    reason: str


class SessionEnded(Payload):
    """A session has ended; nothing of it runs any more. `output_sha256`: of all `output_bytes` it has printed."""

    status: str
    reason: str
    exit_code: int | None
    exit_signal: str | None
    output_bytes: int
    output_sha256: str | None


class WorkerLost(Payload):
    """A worker fell silent, or was followed by one of its name. Events of what becomes of its sessions come by themselves."""

    worker: str
    incarnation: str


class KeyChanged(Payload):
    """An API key was made, revoked or given another secret. `overlap_seconds`: how long the old secret is still taken."""

    key_id: str
    name: str
    permissions: list[str]
    overlap_seconds: int = 0


PAYLOADS: Final = MappingProxyType[EventKind, type[Payload]](
    {
        EventKind.SESSION_CREATED: SessionCreated,
        EventKind.SESSION_STARTED: SessionStarted,
        EventKind.SESSION_STATUS_CHANGED: SessionStatusChanged,
        EventKind.SESSION_INPUT: SessionInput,
        EventKind.SESSION_REQUEST: SessionRequest,
        EventKind.SESSION_RESTARTED: SessionRestarted,
        EventKind.SESSION_COMPLETED: SessionEnded,
        EventKind.SESSION_TERMINATED: SessionEnded,
        EventKind.SESSION_FAILED: SessionEnded,
        EventKind.WORKER_LOST: WorkerLost,
        EventKind.KEY_CREATED: KeyChanged,
        EventKind.KEY_REVOKED: KeyChanged,
        EventKind.KEY_ROTATED: KeyChanged,
    }
)
