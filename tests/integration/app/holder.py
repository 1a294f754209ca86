"""A worker as the web tier sees one: it holds sessions, writes their logs, hears its bells. No process runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.ids import uuid7
from models import claims, inputs, workers
from models.claims import Started
from models.endings import Ending
from models.events import Origin
from models.inputs import Delivery, State, Want
from models.lifecycle import Reason
from models.segments import Stretch
from models.tables import Session
from streams import closing, keys
from streams.appender import Appender, Batch
from streams.entries import Entry, EntryKind, pack
from streams.stored import Tail

if TYPE_CHECKING:
    from uuid import UUID

    from app.web import Web
    from models.inputs import Mail

ME = Origin("holder")


@dataclass
class Run:
    """A session this worker holds: where its log stands."""

    web: Web
    session_id: UUID
    fence: int
    appender: Appender
    entries: list[Entry] = field(default_factory=list)
    printed: bytes = b""

    def write(self, data: bytes) -> None:
        """Let the program print: the entry goes to Redis, as a live one does first."""
        self._append(EntryKind.OUTPUT, {"offset": len(self.printed), "stream": "stdout"}, data)
        self.printed += data

    def tell(self, *statuses: str) -> None:
        """Write statuses into the log. A worker's next transaction writes the last one into the row."""
        for status in statuses:
            self._append(EntryKind.STATUS, {"status": status})

    def fetch(self) -> list[Mail]:
        """Take the mail that is there, as a worker does that has seen none."""
        want = Want(self.session_id, self.fence, 0, 0, 100)
        with self.web.database.transaction() as tx:
            incarnation = tx.scalars(select(Session.worker).where(Session.id == self.session_id)).one()
            assert incarnation is not None
            return inputs.fetch(tx, incarnation, [want])

    def deliver(self, letter: Mail, state: State = State.WRITTEN, reason: str | None = None) -> None:
        """Say what became of a row."""
        delivery = Delivery(self.session_id, letter.input_seq, state, datetime.now(UTC), reason, len(self.printed))
        with self.web.database.transaction() as tx:
            inputs.report(tx, [delivery])

    def _append(self, kind: EntryKind, fields: dict[str, Any], data: bytes = b"") -> None:
        entry = Entry(len(self.entries) + 1, kind, 0, fields, data)
        self.entries.append(entry)
        batch = Batch(self.session_id, self.fence, [(entry.seq, pack(entry))], may_create=True)
        assert self.appender.append([batch]) == [entry.seq]

    def end(self, reason: Reason = Reason.EXITED, *, exit_code: int | None = 0) -> None:
        """Let the program end, everything stored."""
        at = datetime.now(UTC)
        whole = Stretch(self.session_id, 1, len(self.entries), 0, len(self.printed), b"".join(map(pack, self.entries)))
        digest = hashlib.sha256(self.printed).hexdigest()
        tail = Tail(len(self.entries), len(self.printed), digest, [whole] if self.entries else [])
        with self.web.database.transaction() as tx:
            session = claims.held(tx, self.session_id, self.fence)
            final = closing.close(tx, session, Ending(reason, exit_code=exit_code), tail, ME, at=at)
        self.appender.end(self.session_id, self.fence, final)


class Holder:
    """One incarnation."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.incarnation = uuid7()
        self.node = f"test-{self.incarnation}@here"
        arrival = workers.Arrival(self.incarnation, str(self.incarnation), "here", self.node, 1, 8, "0")
        with web.database.transaction() as tx:
            workers.arrive(tx, arrival, at=datetime.now(UTC))
        self._channel = web.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._channel.subscribe(keys.holder(self.incarnation))
        self._channel.get_message(timeout=5)  # the confirmation

    def run(self, session_id: UUID) -> Run:
        """Take a session and say that its process runs."""
        with self.web.database.transaction() as tx:
            session = claims.claim(tx, session_id, self.incarnation, "delivery")
            assert session is not None
            claims.started(tx, session_id, session.fence, Started(4711, "/"), ME, at=datetime.now(UTC))
        return Run(self.web, session_id, session.fence, Appender(self.web.redis, self.web.settings))

    def hears(self) -> str | None:
        """Return the session the next bell names, if one rings within a second."""
        message = self._channel.get_message(timeout=1)
        return message["data"].decode() if message else None

    def leave(self) -> None:
        """Be gone."""
        self._channel.close()
        with self.web.database.transaction() as tx:
            workers.leave(tx, self.incarnation)
