"""Audit rows that are written beside the requests they are about: refusals, which have no transaction of their own.

A bounded list, one greenlet that writes it. While PostgreSQL is away the list waits; what comes beyond its bound is dropped
and counted. Rows of what was done are written in the transaction that did it, and are never lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import gevent
import structlog
from gevent.event import Event

from app.process import is_patched
from core import metrics
from core.errors import DatabaseUnavailable, RateLimited, SessionNotFound
from core.vital import spawn_vital
from models import audit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.audit import Deed
    from models.database import Database, Transaction

log = structlog.get_logger(__name__)

BOUND: Final = 1000
GATHER_SECONDS: Final = 0.25
"""Between two writes: refusals come in floods."""
AGAIN_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Waiting:
    """A row to write. `only_if_foreign`: reading what does not exist is a mistake, reading somebody else's is an attempt."""

    deed: Deed
    only_if_foreign: bool
    times: int = 1


class AuditTrail:
    """What this process has still to write."""

    def __init__(self, database: Database, *, bound: int = BOUND) -> None:
        self._database = database
        self._bound = bound
        self._waiting: dict[Any, _Waiting] = {}
        self._news = Event()

    def open(self) -> None:
        """Begin to write."""
        spawn_vital("audit trail", self._keep_writing)

    def add(self, deed: Deed, *, only_if_foreign: bool = False) -> None:
        """Take a row to write, and return at once; in a plain process, a test's, it is written here."""
        # Whoever is over a rate limit comes again and again: one row for all that wait, with their number.
        limited = deed.outcome == RateLimited.code
        same: Any = (deed.actor, deed.address, deed.action) if limited else object()
        if same in self._waiting:
            self._waiting[same].times += 1
        elif len(self._waiting) >= self._bound:
            metrics.AUDIT_DROPPED.inc()
        else:
            self._waiting[same] = _Waiting(deed, only_if_foreign)
        if is_patched():
            self._news.set()
        else:
            self.write()

    def write(self) -> bool:
        """Write what waits; return whether PostgreSQL took it."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return True
        try:
            with self._database.transaction() as tx:
                audit.record(tx, *_resolved(tx, waiting.values()))
        except DatabaseUnavailable:
            kept = dict([*waiting.items(), *self._waiting.items()][: self._bound])
            metrics.AUDIT_DROPPED.inc(len(waiting) + len(self._waiting) - len(kept))
            self._waiting = kept
            return False
        except Exception:
            # Once more would fail as well, and the rows behind these must be written.
            metrics.AUDIT_FAULTS.labels("writing").inc(len(waiting))
            log.exception("audit rows could not be written", rows=len(waiting))
        return True

    def _keep_writing(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self.write():
                gevent.sleep(GATHER_SECONDS)
            else:
                gevent.sleep(AGAIN_SECONDS)
                self._news.set()


def _resolved(tx: Transaction, waiting: Iterable[_Waiting]) -> list[Deed]:
    """Return the rows, with whose session it was that was not found: the client is not told, nor made to wait for it."""
    missed = [each.deed for each in waiting if each.deed.outcome == SessionNotFound.code]
    owners = audit.owners_of(tx, {UUID(deed.target) for deed in missed if deed.target}) if missed else {}
    rows = []
    for each in waiting:
        deed = each.deed
        more: dict[str, Any] = {} if each.times == 1 else {"times": each.times}
        if deed.outcome == SessionNotFound.code and deed.target and (of := owners.get(UUID(deed.target))):
            more["foreign_owner"] = of
        elif each.only_if_foreign:
            continue
        rows.append(replace(deed, detail={**(deed.detail or {}), **more}) if more else deed)
    return rows
