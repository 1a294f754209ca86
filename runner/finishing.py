"""Writing the end of a session that this worker holds, and telling whoever reads along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from core.errors import Fenced
from models import claims, inputs, segments
from models.endings import Ending
from models.lifecycle import FINAL, Status
from streams import closing
from streams.appender import Batch
from streams.entries import EntryKind, pack
from streams.stored import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.database import Transaction
    from models.inputs import Delivery
    from models.tables import Session
    from runner.live import LiveSession
    from runner.supervision import Finish
    from streams.appender import Appender
    from streams.entries import Entry

log = structlog.get_logger(__name__)


def write_end(
    tx: Transaction, live: LiveSession, how: Finish, reports: Sequence[Delivery], *, at: datetime
) -> list[Entry]:
    """Write the end and return its entries; none if it stands there already: our own, whose reply was lost.

    Raises Fenced. The journal is drained: nothing is added to it any more.
    """
    session = claims.held(tx, live.id, live.identity.fence)
    if session.status in FINAL:
        return []
    tail = _settle(tx, session, live, reports)
    ending = Ending(how.reason, how.detail, how.error, how.exit.code, how.exit.signal)
    return closing.close(tx, session, ending, tail, live.identity.origin, at=at)


def hand_over(
    tx: Transaction, live: LiveSession, how: Finish, reports: Sequence[Delivery], *, at: datetime
) -> list[Entry]:
    """Give a session whose worker leaves back to be claimed, unless somebody wants its end: then write that.

    Returns the entries that say so; none if that stands there already. Raises Fenced.
    """
    session = claims.held(tx, live.id, live.identity.fence)
    if session.status in FINAL or session.status == Status.TERMINATING:
        return write_end(tx, live, how, reports, at=at)
    if session.worker is None:
        return []
    tail = _settle(tx, session, live, reports)
    return closing.reopen(tx, session, how.reason, tail, live.identity.origin, at=at)


def _settle(tx: Transaction, session: Session, live: LiveSession, reports: Sequence[Delivery]) -> Tail:
    """Write what became of inputs; return where the log stands."""
    journal = live.journal
    if session.claim != journal.claim:
        raise Fenced  # the fence alone may be given out again, by a database that lost its last commits
    inputs.report(tx, reports)
    segments.drop_behind(tx, live.id, journal.stored_seq)
    return Tail(journal.seq, journal.offset, journal.sha256, journal.unstored())


def tell(appender: Appender, live: LiveSession, final: Sequence[Entry]) -> None:
    """Say it in Redis and the log. A failure costs readers a second: they find the end in PostgreSQL."""
    if final[-1].kind is EntryKind.RESTARTED:
        packed = [(entry.seq, pack(entry)) for entry in final]
        appender.append([Batch(live.id, live.identity.fence, packed, may_create=True)])
        log.info("session handed over", session_id=str(live.id), request_id=live.identity.origin.request_id)
        return
    appender.end(live.id, live.identity.fence, final, claim=live.journal.claim)
    facts = final[-1].fields
    log.info(
        "session ended",
        session_id=str(live.id),
        reason=facts["reason"],
        exit_code=facts["exit_code"],
        request_id=live.identity.origin.request_id,
    )
