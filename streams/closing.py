"""The end of a session in one transaction: its last segments, the final entries as a segment of their own, and the row.

Only after the commit does anybody tell Redis. Dying in between costs nothing: readers find the final entries in PostgreSQL.
Used by the holder; by whoever ends a session that nobody holds; and by housekeeping in a lost holder's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event

from core import metrics
from core.errors import Fenced
from models import claims, endings, segments, sessions
from models.lifecycle import FINAL
from models.segments import Stretch
from streams import stored
from streams.entries import Entry, EntryKind, pack, timestamp_ms
from streams.stored import Tail

EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOTHING: Final = Tail(0, 0, EMPTY_SHA256)
LOST_AT_MOST: Final = 100_000
"""Entries that can have been appended and not stored: what a session may have unsaved, in entries of a few bytes."""

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from models.database import Transaction
    from models.endings import Ending
    from models.events import Origin
    from models.lifecycle import Reason
    from models.tables import Session


def close(
    tx: Transaction, session: Session, ending: Ending, tail: Tail, origin: Origin, *, at: datetime
) -> list[Entry]:
    """Write the end of a locked live session; return its final entries. Raises Fenced if somebody wrote past us."""
    final = final_entries(session, ending, tail, at=at)
    store(tx, session, tail, final)
    output = endings.Output(tail.output_bytes, tail.sha256, final[-1].seq)
    endings.finish(tx, session, ending, output, origin, at=at)
    ended = metrics.SESSIONS_ENDED.labels(session.program, final[-1].fields["status"], final[-1].fields["reason"])
    event.listen(tx, "after_commit", lambda _: ended.inc(), once=True)
    return final


def reopen(
    tx: Transaction, session: Session, reason: Reason, tail: Tail, origin: Origin, *, at: datetime
) -> list[Entry]:
    """Let a locked live session whose holder is lost begin again elsewhere; return the entries that say so. Raises Fenced."""
    claims.reopen(tx, session, reason, origin, at=at)
    said = _behind(
        tail,
        (EntryKind.STATUS, {"status": session.status, "reason": str(reason)}),
        (EntryKind.RESTARTED, {"attempt": session.attempt, "reason": str(reason)}),
        at=at,
    )
    store(tx, session, tail, said)
    session.last_seq = said[-1].seq
    session.output_bytes = tail.output_bytes
    return said


def store(tx: Transaction, session: Session, tail: Tail, entries: Sequence[Entry]) -> None:
    """Store what is unstored of a tail, and these entries behind it. Raises Fenced if somebody wrote past us."""
    end = tail.output_bytes
    blob = b"".join(pack(entry) for entry in entries)
    last = Stretch(session.id, tail.last_seq + 1, entries[-1].seq, end, end, blob)
    for stretch in (*tail.unstored, last):
        if not segments.store(tx, [stretch]):
            raise Fenced


def end_unclaimed(tx: Transaction, session_id: UUID, ending: Ending, origin: Origin, *, at: datetime) -> list[Entry]:
    """End a session that no worker has claimed; nothing is done if one has, or if it has ended."""
    session = sessions.locked(tx, session_id)
    if session.worker is not None or session.status in FINAL:
        return []
    sessions.ask_to_stop(tx, session, ending.reason, ending.detail, origin, at=at)
    return close(tx, session, ending, standing(tx, session), origin, at=at)


def standing(tx: Transaction, session: Session) -> Tail:
    """Return where the log of a session stands that nobody holds: at its beginning, unless it has run before."""
    return NOTHING if session.attempt == 1 else stored.tail_of(tx, session.id)


def final_entries(session: Session, ending: Ending, tail: Tail, *, at: datetime) -> list[Entry]:
    """Compose the last status and the `terminated` entry, which is always the last of a log."""
    status, reason = endings.status_and_reason(session, ending)
    facts = {
        "status": str(status),
        "exit_code": ending.exit_code,
        "exit_signal": ending.exit_signal,
        "reason": str(reason),
        "output_bytes": tail.output_bytes,
        "output_sha256": tail.sha256,
    }
    last_status = {"status": str(status), "reason": str(reason)}
    return _behind(tail, (EntryKind.STATUS, last_status), (EntryKind.TERMINATED, facts), at=at)


def _behind(tail: Tail, *said: tuple[EntryKind, dict[str, Any]], at: datetime) -> list[Entry]:
    """Number entries behind a log's tail; where it is torn, behind whatever readers may have seen of what is lost."""
    at_ms = timestamp_ms(at)
    seq, entries = tail.last_seq, []
    if tail.torn:
        seq += LOST_AT_MOST
        entries.append(Entry(seq, EntryKind.GAP, at_ms, {"from": tail.last_seq + 1, "to": seq, "reason": "lost"}))
    for kind, fields in said:
        seq += 1
        entries.append(Entry(seq, kind, at_ms, fields))
    return entries
