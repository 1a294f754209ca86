"""Writing a session's end into its row, exactly once. The log's last entries are written by `streams.closing`, in the
same transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import inputs, lifecycle, outbox, requests
from models.events import ENDINGS, NewEvent, Origin
from models.lifecycle import ENDED_BY, Reason, Status

if TYPE_CHECKING:
    from datetime import datetime

    from models.database import Transaction
    from models.tables import Session


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended, as its holder, or whoever ends it in the holder's place, saw it."""

    reason: Reason
    detail: str | None = None
    error: str | None = None
    exit_code: int | None = None
    exit_signal: str | None = None
    holder_alive: bool = True
    """False: nobody knows what became of inputs in `writing`."""


@dataclass(frozen=True, slots=True)
class Output:
    """What the program printed in all: bytes and the sha256 of them, hexadecimal. `last_seq`: of the final entry."""

    size: int
    sha256: str
    last_seq: int


def status_and_reason(session: Session, ending: Ending) -> tuple[Status, Reason]:
    """Decide what the end is called. A stop that was asked for first explains whatever exit followed."""
    reason = Reason(session.stop_reason) if session.stop_reason else ending.reason
    return lifecycle.after(Status(session.status), ENDED_BY[reason]), reason


def finish(tx: Transaction, session: Session, ending: Ending, output: Output, origin: Origin, *, at: datetime) -> None:
    """Write the end of a locked live session, fail its unwritten inputs, tell the outbox."""
    status, reason = status_and_reason(session, ending)
    session.status = status
    session.reason = reason
    session.reason_detail = session.reason_detail or ending.detail
    session.error = ending.error
    session.exit_code = ending.exit_code
    session.exit_signal = ending.exit_signal
    session.last_seq = output.last_seq
    session.output_bytes = output.size
    session.output_sha256 = output.sha256
    session.env = {}
    session.ended_at = session.updated_at = at
    requests.withdraw_all(tx, session.id, at=at)
    inputs.close(tx, session.id, reason="session_ended", holder_alive=ending.holder_alive)
    payload = {
        "status": status,
        "reason": reason,
        "exit_code": ending.exit_code,
        "exit_signal": ending.exit_signal,
        "output_bytes": output.size,
        "output_sha256": output.sha256,
    }
    outbox.add(tx, NewEvent(ENDINGS[status], session.owner, at, origin, session.id, payload))
