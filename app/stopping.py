"""Ending a session on request: who ends it, and waiting until it is over.

Held by a worker: the worker is asked through the mailbox. Held by nobody: there is nothing to stop, the end is written here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app import request_id
from app.auth import current_caller
from app.origin import note, origin
from models import inputs, sessions
from models.endings import Ending
from models.inputs import Kind, NewInput
from models.lifecycle import FINAL, Reason
from streams import closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from app.web import Web
    from models.database import Transaction
    from models.events import Origin
    from models.inputs import Bell
    from models.tables import Session
    from streams.entries import Entry

USER_TERMINATED: Final = "User terminated"
LOOKS: Final = (0.02, 0.03, 0.05, 0.1)
"""Seconds between looks at the row; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a request to stop has set off. `final_entries`: of a session that nobody held and that is over now."""

    session: Session
    bell: Bell
    final_entries: Sequence[Entry] = ()

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        return self.session.status in FINAL


def ask(tx: Transaction, session_id: UUID, detail: str, by: Origin, *, at: datetime) -> Stopping:
    """Ask for a session's end. One that has ended stays as it is; asking again rings again, and nothing more."""
    session = sessions.locked(tx, session_id)
    bell = inputs.bell_of(tx, session)
    if session.status in FINAL:
        return Stopping(session, bell)
    first = sessions.ask_to_stop(tx, session, Reason.REQUESTED, detail, by, at=at)
    if session.worker is None:
        ending = Ending(Reason.REQUESTED, detail)
        return Stopping(session, bell, closing.close(tx, session, ending, closing.standing(tx, session), by, at=at))
    if first:
        inputs.append(tx, session, NewInput(Kind.STOP, detail={"reason": detail}), by, at=at)
    return Stopping(session, bell)


def request(web: Web, session_id: UUID, detail: str) -> Session:
    """Ask for the end of a session that the caller sees, tell who has to know, and return it as it is then."""
    at = web.clock.at()
    with web.database.transaction() as tx:
        sessions.visible(tx, session_id, current_caller().sees)
        asked = ask(tx, session_id, detail, origin(), at=at)
        note(tx, "session.terminate", session_id, at=at, detail={"reason": detail})
    if asked.final_entries:
        web.doorbell.end(asked.session, asked.final_entries)
    if not asked.over:
        web.doorbell.ring(asked.bell, request_id=request_id.current())
    return asked.session


def told(session: Session) -> dict[str, str | None]:
    """Return what the one who asked for the end is told."""
    message = "Session terminated successfully" if session.ended_at else "Session termination requested"
    return {
        "message": message,
        "session_id": str(session.id),
        "reason": session.reason_detail or session.reason or session.stop_reason,
    }


def wait_for_end(web: Web, session_id: UUID, seconds: float) -> Session:
    """Return the session as it is when it has ended, or after so many seconds."""
    deadline = web.clock.now() + seconds
    looks = iter(LOOKS)
    while True:
        with web.database.transaction() as tx:
            session = sessions.visible(tx, session_id, None)
        left = deadline - web.clock.now()
        if session.status in FINAL or left <= 0:
            return session
        time.sleep(min(left, next(looks, LOOKS[-1])))
