"""What goes to NATS: subject, headers and bytes of an event, an entry of output, a dead letter. Pure.

Subjects are `<prefix>.<event_type>`; `Nats-Msg-Id` is what JetStream recognises a repeat by.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from models import feed
from streams import sse

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Row

    from models.events import Envelope
    from streams.entries import Entry

STREAM: Final = "JELMORE"
DEAD_STREAM: Final = "JELMORE_DLQ"
FAMILIES: Final = ("session", "key", "worker")
OUTPUT: Final = "session.output"
WRAPPING_BYTES: Final = 2048
"""What headers and the protocol add to a message, at most: NATS counts them as well."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, before it is sent."""

    subject: str
    id: str
    data: bytes
    headers: dict[str, str]

    @property
    def size(self) -> int:
        """Return about what it counts for NATS."""
        return len(self.data) + WRAPPING_BYTES


def subjects(prefix: str) -> list[str]:
    """Return what the stream of events takes."""
    return [f"{prefix}.{family}.>" for family in FAMILIES]


def dead_subjects(prefix: str) -> list[str]:
    """Return what the stream of dead letters takes."""
    return [f"{prefix}.dlq.>"]


def of_event(prefix: str, row: Row[Any]) -> Message:
    """Return an event as a message."""
    return _message(prefix, feed.envelope(row))


def of_output(prefix: str, session_id: UUID, entry: Entry) -> Message:
    """Return an entry of output as a message: as text, or as exact bytes where it is none."""
    try:
        entry.data.decode()
        exact = False
    except UnicodeDecodeError:
        exact = True
    members = sse.members(entry, as_base64=exact)
    at = members.pop("timestamp")
    envelope: Envelope = {
        "event_type": OUTPUT,
        "session_id": str(session_id),
        "event_id": f"{session_id}:{entry.seq}",
        "position": None,
        "payload": {"seq": entry.seq, **members},
        "timestamp": at,
        "request_id": None,
        "actor": None,
    }
    message = _message(prefix, envelope)
    if (
        not exact and len(message.data) > 2 * len(entry.data) + WRAPPING_BYTES
    ):  # control characters, six bytes each: never too much
        del members["content"]
        envelope["payload"] = {"seq": entry.seq, **members} | {"content_base64": base64.b64encode(entry.data).decode()}
        return _message(prefix, envelope)
    return message


def dead(prefix: str, message: Message, why: str, tries: int, max_bytes: int) -> Message:
    """Return the dead letter of a message; what would be too large for it is left out."""
    event = orjson.loads(message.data)
    letter = {"reason": why, "tries": tries, "event": event}
    data = orjson.dumps(letter)
    if len(data) + WRAPPING_BYTES > max_bytes:
        letter["event"] = {**event, "payload": None, "payload_bytes": len(orjson.dumps(event["payload"]))}
        data = orjson.dumps(letter)
    subject = message.subject.replace(f"{prefix}.", f"{prefix}.dlq.", 1)
    return Message(subject, f"dead:{message.id}", data, {**message.headers, "Nats-Msg-Id": f"dead:{message.id}"})


def _message(prefix: str, envelope: Envelope) -> Message:
    headers = {"Nats-Msg-Id": envelope["event_id"], "Event-Type": envelope["event_type"]}
    if envelope["session_id"] is not None:
        headers["Session-Id"] = envelope["session_id"]
    if envelope["request_id"] is not None:
        headers["Request-Id"] = envelope["request_id"]
    return Message(f"{prefix}.{envelope['event_type']}", envelope["event_id"], orjson.dumps(envelope), headers)
