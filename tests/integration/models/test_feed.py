"""Reading events: none is skipped that is committed late, and one session's stay in order."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from core.ids import uuid7
from models import api_keys, claims, endings, feed, inputs, outbox, requests, sessions
from models.claims import Shown, Started
from models.endings import Ending, Output
from models.events import BEGINNING, EventKind, NewEvent, Origin, Position
from models.feed import Wanted
from models.lifecycle import Reason, Status
from models.payloads import PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from models.database import Database, Transaction
    from models.tables import Session

HERE = Origin("test", "r-1")


def note(tx: Transaction, actor: str, at: datetime, session_id: UUID | None = None) -> None:
    outbox.add(tx, NewEvent(EventKind.WORKER_LOST, "ada", at, Origin(actor), session_id, {"worker": "w"}))


def told(database: Database, after: Position = BEGINNING, **more: Any) -> list[str]:
    with database.transaction() as tx:
        return [row.actor for row in feed.read(tx, after, limit=100, **more)]


def end(database: Database) -> Position:
    with database.transaction() as tx:
        return feed.end(tx)


def test_a_row_that_is_committed_late_is_never_skipped(database: Database, at: datetime) -> None:
    start = end(database)
    with ExitStack() as slow:
        early = slow.enter_context(database.transaction())
        note(early, "early, committed late", at)
        with database.transaction() as late:
            note(late, "late, committed early", at)

        assert told(database, start) == [], "what may still come before it is waited for"
        assert told(database, start, unpublished=True) == []
        assert end(database) <= start, "and nobody may go on from behind it"

    assert told(database, start) == ["early, committed late", "late, committed early"]
    assert told(database, end(database)) == []


def test_a_transaction_that_is_rolled_back_holds_up_nothing(database: Database, at: datetime) -> None:
    start = end(database)
    with database.transaction() as tx:
        note(tx, "never", at)
        with database.transaction() as other:
            note(other, "after it", at)
        tx.rollback()

    assert told(database, start) == ["after it"]


def test_a_sessions_events_stay_in_order_whichever_transaction_began_first(
    database: Database, at: datetime, new_session: Callable[..., Session]
) -> None:
    session, start = new_session(), end(database)
    with database.transaction() as waited:
        waited.scalar(text("SELECT pg_current_xact_id()"))  # it has its number now, and waits for the session
        with database.transaction() as quick:
            sessions.locked(quick, session.id)
            note(quick, "first", at, session.id)
        sessions.locked(waited, session.id)
        note(waited, "second", at, session.id)

    assert told(database, start) == ["first", "second"]


def test_a_restored_database_goes_on_where_it_was(database: Database, at: datetime) -> None:
    with database.transaction() as tx:
        note(tx, "old", at)
    with database.transaction() as tx:  # as if they came from a server that had seen more transactions
        tx.execute(text("UPDATE events SET transaction = transaction + 1000000"))
    with database.transaction() as tx:
        assert "old" not in [row.actor for row in feed.read(tx, BEGINNING, limit=1000)]
        assert feed.mend(tx)
    with database.transaction() as tx:
        assert not feed.mend(tx)
        before = feed.end(tx)
        assert "old" in [row.actor for row in feed.read(tx, BEGINNING, limit=1000)]
    with database.transaction() as tx:
        note(tx, "new", at)

    assert told(database, before) == ["new"]


def test_events_are_chosen_by_owner_kind_session_and_time(
    database: Database, at: datetime, new_session: Callable[..., Session]
) -> None:
    start = end(database)
    mine, other = new_session("ada"), new_session("bob")
    kinds = {EventKind.SESSION_CREATED}

    with database.transaction() as tx:

        def chosen(**wanted: Any) -> list[UUID | None]:
            return [row.session_id for row in feed.read(tx, start, Wanted(**wanted), limit=10)]

        assert chosen() == [mine.id, other.id]
        assert chosen(owner="ada", kinds=kinds) == [mine.id]
        assert chosen(session_id=other.id, since=at) == [other.id]
        assert chosen(kinds={"key.created"}) == chosen(until=at) == []


def test_every_kind_of_event_is_written_as_it_is_described(
    database: Database, at: datetime, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    start = end(database)
    worker = new_worker("a name")
    for status in (Status.COMPLETED, Status.TERMINATED, Status.FAILED):
        _run_to_its_end(database, new_session(), worker, status, at)
    new_worker("a name")  # follows the one of its name
    with database.transaction() as tx:
        made = api_keys.create(tx, api_keys.NewKey("feed", "ada", ("read",)), HERE, at=at)
        api_keys.rotate(tx, made.row.id, 5, HERE, at=at)
        api_keys.revoke(tx, made.row.id, HERE, at=at)

    with database.transaction() as tx:
        events = [feed.envelope(row) for row in feed.read(tx, start, limit=1000)]
    assert {event["event_type"] for event in events} == set(EventKind)
    assert set(PAYLOADS) == set(EventKind)
    for event in events:
        shape = PAYLOADS[EventKind(event["event_type"])]
        shape.model_validate(event["payload"], strict=True)
        assert set(event["payload"]) <= set(shape.model_fields), "a member that nobody describes"
        assert (event["session_id"] is None) == (not event["event_type"].startswith("session."))
    assert [event["position"] for event in events] == sorted(event["position"] or "" for event in events)
    assert Position.read(events[-1]["position"] or "") <= end(database)


def _run_to_its_end(database: Database, session: Session, worker: UUID, status: Status, at: datetime) -> None:
    reasons = {Status.COMPLETED: Reason.EXITED, Status.TERMINATED: Reason.TIMEOUT, Status.FAILED: Reason.SPAWN_FAILED}
    with database.transaction() as tx:
        held = claims.claim(tx, session.id, worker, str(uuid7()))
        assert held is not None
        claims.started(tx, session.id, held.fence, Started(1, "/"), HERE, at=at)
        claims.show(tx, [Shown(session.id, held.fence, Status.IDLE)], HERE, at=at)
        requests.ask(tx, session, requests.NewRequest(uuid7(), "permission", "Bash", {}, None), HERE, at=at)
        box = inputs.open_mailbox(tx, session.id, None, at=at)
        inputs.accept(tx, box, inputs.NewInput(inputs.Kind.INPUT, b"hello"), HERE, at=at)
        claims.reopen(tx, claims.take_fence(tx, session.id), Reason.WORKER_LOST, HERE, at=at)
        again = claims.claim(tx, session.id, worker, str(uuid7()))
        assert again is not None
        held = claims.started(tx, session.id, again.fence, Started(1, "/"), HERE, at=at)
        endings.finish(tx, held, Ending(reasons[status], exit_code=0), Output(0, "", 1), HERE, at=at)
