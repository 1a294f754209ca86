"""Where a log that nobody holds stands: what is stored, and what of a salvaged tail follows it without a hole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from models import segments
from models.segments import Stretch
from streams.entries import EntryKind, pack, unpack_all
from streams.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from models.database import Database, Transaction
    from models.tables import Session
    from streams.entries import Entry

SEGMENTS_AT_A_TIME: Final = 16


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a log stands: last entry's seq, bytes printed, their sha256 (hexadecimal).

    `unstored` are the stretches that PostgreSQL does not have yet, in order. `torn`: readers may have seen entries behind
    its end, which are lost; their numbers are not given again.
    """

    last_seq: int
    output_bytes: int
    sha256: str
    unstored: Sequence[Stretch] = ()
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What PostgreSQL has of a log. `sha256`: of the output so far, to be gone on with."""

    last_seq: int
    output_bytes: int
    sha256: hashlib._Hash


def read(tx: Transaction, session_id: UUID) -> Stored:
    """Read a stored log through, a few segments at a time: hashing is why."""
    digest = hashlib.sha256()
    seq = offset = 0
    while stretches := segments.after(tx, session_id, seq, limit=SEGMENTS_AT_A_TIME):
        for stretch in stretches:
            for entry in unpack_all(stretch.blob):
                if entry.kind is EntryKind.OUTPUT:
                    digest.update(entry.data)
        seq, offset = stretches[-1].last_seq, stretches[-1].end_offset
        tx.expire_all()
    return Stored(seq, offset, digest)


def journal_of(database: Database, session: Session) -> Journal:
    """Begin the log of a session that was just claimed, or go on where a lost worker's ended."""
    if session.attempt == 1:
        return Journal(session.id, session.fence, session.claim or "")
    with database.transaction() as tx:
        before = read(tx, session.id)
    return Journal(
        *(session.id, session.fence, session.claim or ""),
        seq=before.last_seq,
        offset=before.output_bytes,
        sha256=before.sha256,
    )


def tail_of(tx: Transaction, session_id: UUID, entries: Sequence[Entry] = (), *, torn: bool = False) -> Tail:
    """Work out where a log stands: what is stored, and of the salvaged entries those that follow without a hole."""
    stored = read(tx, session_id)
    digest, end = stored.sha256, stored.output_bytes
    following: list[Entry] = []
    for entry in entries:
        if entry.seq == stored.last_seq + len(following) + 1:
            following.append(entry)
            if entry.kind is EntryKind.OUTPUT:
                digest.update(entry.data)
                end += len(entry.data)
    if not following:
        return Tail(stored.last_seq, end, digest.hexdigest(), torn=torn)
    last = following[-1].seq
    blob = b"".join(pack(entry) for entry in following)
    return Tail(
        last,
        end,
        digest.hexdigest(),
        [Stretch(session_id, following[0].seq, last, stored.output_bytes, end, blob)],
        torn,
    )
