"""Writing the end of a session that this worker holds, and telling whoever reads along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from core import metrics
from models import claims, inputs
from models.endings import Ending
from models.lifecycle import FINAL
from streams import closing
from streams.stored import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.database import Transaction
    from models.inputs import Delivery
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
    inputs.report(tx, reports)
    journal = live.journal
    tail = Tail(journal.seq, journal.offset, journal.sha256, journal.unstored())
    ending = Ending(how.reason, how.detail, how.error, how.exit.code, how.exit.signal)
    return closing.close(tx, session, ending, tail, live.identity.origin, at=at)


def tell(appender: Appender, live: LiveSession, final: Sequence[Entry]) -> None:
    """Say it in Redis, the log and the metrics. A failure costs readers a second: they find the end in PostgreSQL."""
    appender.end(live.id, live.identity.fence, final, claim=live.journal.claim)
    facts = final[-1].fields
    log.info(
        "session ended",
        session_id=str(live.id),
        reason=facts["reason"],
        exit_code=facts["exit_code"],
        request_id=live.identity.origin.request_id,
    )
    metrics.SESSIONS_ENDED.labels(facts["status"], facts["reason"]).inc()
