"""The mailbox: numbered in order, fetched by the holder alone, never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from core.errors import SessionEnding, SessionNotFound
from core.ids import uuid7
from models import claims, inputs, sessions
from models.events import Origin
from models.inputs import Delivery, Kind, NewInput, State, Want
from models.lifecycle import Reason
from models.tables import Input

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from models.database import Database
    from models.inputs import Accepted, Mail
    from models.tables import Session

HERE = Origin("test")


@pytest.fixture
def held(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> tuple[Session, UUID]:
    worker = new_worker()
    with database.transaction() as tx:
        session = claims.claim(tx, new_session().id, worker, "d")
    assert session is not None
    return session, worker


def post(database: Database, session: Session, body: bytes, at: datetime, kind: Kind = Kind.INPUT) -> Accepted:
    with database.transaction() as tx:
        opened = inputs.open_mailbox(tx, session.id, session.owner, at=at)
        return inputs.accept(tx, opened, NewInput(kind, body), HERE, at=at)


def fetch(
    database: Database, held: tuple[Session, UUID], *, after: int = 0, urgent: int = 0, room: int = 100, fence: int = 0
) -> list[Mail]:
    session, worker = held
    with database.transaction() as tx:
        return inputs.fetch(tx, worker, [Want(session.id, session.fence + fence, after, urgent, room)])


def test_numbers_are_given_without_holes_under_concurrency(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    with ThreadPoolExecutor(8) as crowd:
        given = list(crowd.map(lambda n: post(database, held[0], b"%d" % n, at).input_seq, range(40)))

    assert sorted(given) == list(range(1, 41))


def test_the_holder_gets_each_row_in_order_and_asks_only_for_what_is_new(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    for body in (b"a", b"b", b"c"):
        post(database, held[0], body, at)

    assert [mail.body for mail in fetch(database, held)] == [b"a", b"b", b"c"]
    assert [mail.body for mail in fetch(database, held, after=2)] == [b"c"]
    assert fetch(database, held, after=3) == []


def test_a_look_whose_reply_was_lost_is_answered_again(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    post(database, held[0], b"a", at)

    assert fetch(database, held) == fetch(database, held)


def test_a_fenced_holder_gets_nothing(database: Database, held: tuple[Session, UUID], at: datetime) -> None:
    post(database, held[0], b"a", at)

    assert fetch(database, held, fence=-1) == []
    assert fetch(database, (held[0], uuid7())) == []


def test_a_stop_does_not_wait_behind_input_that_has_no_room(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    post(database, held[0], b"a", at)
    post(database, held[0], b"", at, Kind.EOF)
    post(database, held[0], b"", at, Kind.STOP)

    assert [mail.kind for mail in fetch(database, held, room=0)] == [Kind.STOP]


def test_another_owners_session_is_unknown(database: Database, held: tuple[Session, UUID], at: datetime) -> None:
    with pytest.raises(SessionNotFound), database.transaction() as tx:
        inputs.open_mailbox(tx, held[0].id, "eve", at=at)


def test_a_session_that_is_ending_takes_no_input(database: Database, held: tuple[Session, UUID], at: datetime) -> None:
    with database.transaction() as tx:
        sessions.ask_to_stop(tx, sessions.locked(tx, held[0].id), Reason.REQUESTED, None, HERE, at=at)

    with pytest.raises(SessionEnding):
        post(database, held[0], b"x", at)


def states(database: Database, session: Session) -> list[tuple[int, str, str | None]]:
    with database.transaction() as tx:
        rows = tx.query(Input).filter_by(session_id=session.id).order_by(Input.input_seq)
        return [(row.input_seq, row.state, row.reason) for row in rows]


def test_reports_say_what_became_of_each_row(database: Database, held: tuple[Session, UUID], at: datetime) -> None:
    for body in (b"a", b"b"):
        post(database, held[0], body, at)
    fetch(database, held)
    with database.transaction() as tx:
        inputs.report(
            tx,
            [
                Delivery(held[0].id, 1, State.WRITTEN, at, output_offset=5),
                Delivery(held[0].id, 2, State.FAILED, at, "stdin_closed"),
            ],
        )

    assert states(database, held[0]) == [(1, "written", None), (2, "failed", "stdin_closed")]


def test_of_a_dead_holders_row_in_writing_nobody_says_that_it_failed(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    post(database, held[0], b"a", at)
    fetch(database, held)
    post(database, held[0], b"b", at)
    with database.transaction() as tx:
        inputs.close(tx, held[0].id, reason="session_ended", holder_alive=False)

    assert states(database, held[0]) == [(1, "unknown", "session_ended"), (2, "failed", "session_ended")]


def test_a_row_is_shown_with_how_far_it_has_come(database: Database, held: tuple[Session, UUID], at: datetime) -> None:
    session = held[0]
    for kind, body in ((Kind.INPUT, "ä\n".encode()), (Kind.RESIZE, b""), (Kind.EOF, b"")):
        post(database, session, body, at, kind)
    fetch(database, held)
    with database.transaction() as tx:
        inputs.report(tx, [Delivery(session.id, 2, State.FAILED, at, "no_terminal")])

    with database.transaction() as tx:
        assert [inputs.state_of(tx, session.id, seq) for seq in (1, 2)] == [
            (State.WRITING, None),
            (State.FAILED, "no_terminal"),
        ]
        shown = inputs.listing(tx, session.id, after=0, limit=2)
        assert [(row.input_seq, row.kind, row.state, row.size) for row in shown] == [
            (1, Kind.INPUT, State.WRITING, 3),
            (2, Kind.RESIZE, State.FAILED, 0),
        ]
        assert [row.input_seq for row in inputs.listing(tx, session.id, after=2, limit=2)] == [3]


def test_a_resize_keeps_its_place_and_fails_with_the_end(
    database: Database, held: tuple[Session, UUID], at: datetime
) -> None:
    for kind in (Kind.INPUT, Kind.RESIZE, Kind.SIGNAL, Kind.EXTEND):
        post(database, held[0], b"", at, kind)

    assert [mail.kind for mail in fetch(database, held, room=0)] == [Kind.SIGNAL, Kind.EXTEND]
    with database.transaction() as tx:
        inputs.close(tx, held[0].id, reason="session_ended", holder_alive=True)
    assert states(database, held[0]) == [
        (1, "failed", "session_ended"),
        (2, "failed", "session_ended"),
        (3, "written", None),
        (4, "written", None),
    ]
