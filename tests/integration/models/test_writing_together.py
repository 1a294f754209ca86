"""What several requests write in one transaction: as exact as alone, and nobody pays for another's fault."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from sqlalchemy import func, select, text

from app.together import Together
from core.errors import DatabaseUnavailable, TooManySessions
from core.ids import uuid7
from core.settings import load_settings
from models import inputs, sessions
from models.audit import Deed
from models.events import Origin
from models.inputs import Kind, NewInput
from models.lifecycle import LIVE
from models.line import Line
from models.mailings import Letter
from models.openings import Caps, NewSession, Opening
from models.tables import AuditRow, Event, Input, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from uuid import UUID

    from models.database import Database

HERE = Origin("key", "a-request")

TICK = timedelta(microseconds=1)


@pytest.fixture
def together(database: Database, database_url: str) -> Iterator[Together]:
    opened = Together(database, load_settings({"DATABASE_URL": database_url}))
    yield opened
    opened.close()


def opening(at: datetime, owner: str = "ada", caps: Caps | None = None, **more: Any) -> Opening:
    made = Opening(NewSession(owner, f"{owner}'s", "shell", "true", 60, **more), caps or Caps(None), at)
    return replace(made, deed=Deed("key", "session.create", "ok", at, target=str(made.id)))


def letter(session: Session, at: datetime, **more: Any) -> Letter:
    made = Letter(
        id=uuid7(),
        session_id=session.id,
        owner=session.owner,
        body="x\n",
        body_at_terminal="x\r",
        said="x",
        mode="queue",
        metadata=None,
        origin=HERE,
        at=at,
        deed=Deed("key", "session.input", "ok", at, target=str(session.id)),
    )
    return replace(made, **more)


def live(database: Database) -> int:
    with database.transaction() as tx:
        return tx.scalar(select(func.count()).where(Session.status.in_(LIVE))) or 0


def test_who_is_opened_together_has_a_row_an_event_an_audit_row_and_a_place(
    database: Database, together: Together, at: datetime
) -> None:
    wanted = [opening(at + number * TICK, metadata={"n": number, "big": 2**63}) for number in range(5)]

    places = [place for place in together._open_all(wanted) if isinstance(place, int)]

    assert [place - places[0] for place in places] == [0, 1, 2, 3, 4]
    with database.transaction() as tx:
        for number, each in enumerate(wanted):
            row = sessions.visible(tx, each.id, "ada")
            assert (row.metadata_, row.status, row.sends) == ({"n": number, "big": 2**63}, "initializing", 1)
            assert tx.scalar(select(func.count()).where(Event.session_id == each.id)) == 1
            assert tx.scalar(select(func.count()).where(AuditRow.target == str(each.id))) == 1


def test_who_is_refused_takes_no_place_from_those_behind(database: Database, together: Together, at: datetime) -> None:
    one, other = str(uuid7()), str(uuid7())
    caps = Caps(live(database) + 3, per_owner=1)

    answers = together._open_all(
        [*(opening(at, one, caps) for _ in range(4)), *(opening(at, other, replace(caps, per_owner=9)) for _ in "abc")]
    )

    assert [isinstance(answer, int) for answer in answers] == [True, False, False, False, True, True, False]
    assert all(isinstance(answer, int | TooManySessions) for answer in answers)


@pytest.mark.parametrize("cap", ["total", "per_owner", "per_key"])
def test_a_cap_is_exact_between_processes_that_write_together(
    database: Database, database_url: str, at: datetime, cap: str
) -> None:
    owner, limit = str(uuid7()), 7 + (live(database) if cap == "total" else 0)
    caps = replace(Caps(None), **{cap: limit})

    def crowd(_: int) -> int:
        process = Together(database, load_settings({"DATABASE_URL": database_url}))
        answers = process._open_all([opening(at, owner, caps) for _ in range(5)])
        process.close()
        return sum(isinstance(answer, int) for answer in answers)

    with ThreadPoolExecutor(8) as processes:
        assert sum(processes.map(crowd, range(8))) == 7


def test_what_postgresql_refuses_is_one_requests_fault_alone(
    database: Database, together: Together, at: datetime
) -> None:
    bad = opening(at)
    bad = replace(bad, new=replace(bad.new, timeout_seconds=2**40))
    wanted = [opening(at), opening(at), bad, opening(at)]

    answers = together._open_all(wanted)

    assert isinstance(answers[2], psycopg2.Error)
    assert [isinstance(answer, int) for answer in answers] == [True, True, False, True]
    with database.transaction() as tx:
        found = tx.scalars(select(Session.id).where(Session.id.in_([each.id for each in wanted]))).all()
    assert set(found) == {each.id for each in wanted} - {bad.id}


def test_input_to_several_sessions_is_numbered_in_its_order(
    database: Database, together: Together, new_session: Callable[..., Session], at: datetime
) -> None:
    one, other = new_session(), new_session()
    letters = [letter(each, at, body=f"{n}\n") for n, each in enumerate((one, other, one, one, other))]

    accepted = together._accept_all(letters)

    assert [each.input_seq for each in accepted if each] == [1, 1, 2, 3, 2]
    with database.transaction() as tx:
        rows = tx.scalars(select(Input).where(Input.session_id == one.id).order_by(Input.input_seq)).all()
        assert [(row.body, row.state, row.actor, row.id) for row in rows] == [
            (f"{n}\n".encode(), "accepted", "key", letters[n].id) for n in (0, 2, 3)
        ]
        assert sessions.visible(tx, one.id, None).last_input_seq == 3
        events = tx.scalars(select(Event).where(Event.session_id == one.id, Event.event_type == "session.input"))
        assert [each.payload for each in events] == [
            {"input_id": str(letters[n].id), "input_seq": seq, "kind": "input", "bytes": 2}
            for seq, n in enumerate((0, 2, 3), 1)
        ]
        assert tx.scalar(select(func.count()).where(AuditRow.target == str(one.id))) == 3


def test_numbers_have_no_holes_whichever_way_input_comes(
    database: Database, database_url: str, new_session: Callable[..., Session], at: datetime
) -> None:
    session = new_session()

    def alone(tx_at: datetime) -> int:
        with database.transaction() as tx:
            opened = inputs.open_mailbox(tx, session.id, None, at=tx_at)
            return inputs.accept(tx, opened, NewInput(Kind.INPUT, b"x"), HERE, at=tx_at).input_seq

    def some(_: int) -> list[int]:
        process = Together(database, load_settings({"DATABASE_URL": database_url}))
        found = [process._accept_all([letter(session, at), letter(session, at)]) for _ in range(5)]
        process.close()
        return [alone(at) if each is None else each.input_seq for batch in found for each in batch]

    with ThreadPoolExecutor(6) as processes:
        numbers = [number for batch in processes.map(some, range(6)) for number in batch]
    assert sorted(numbers) == list(range(1, 61))


def test_what_is_not_plain_is_left_to_a_transaction_of_its_own(
    database: Database, together: Together, new_session: Callable[..., Session], at: datetime
) -> None:
    plain, held, ending, at_terminal = (new_session() for _ in range(4))
    with database.transaction() as tx:
        tx.get_one(Session, ending.id).status = "terminating"
        tx.get_one(Session, at_terminal.id).terminal = {"rows": 5, "cols": 5}
    nobodys: UUID = uuid7()
    letters = [
        letter(held, at),
        letter(ending, at),
        letter(plain, at, owner="eve"),
        letter(plain, at, session_id=nobodys),
        letter(at_terminal, at, body_at_terminal=None),
        letter(at_terminal, at),
        letter(plain, at, owner=None),
    ]
    with database.transaction() as somebody:
        sessions.locked(somebody, held.id)
        accepted = together._accept_all(letters)

    assert [each is not None for each in accepted] == [False, False, False, False, False, True, True]
    with database.transaction() as tx:
        (typed,) = tx.scalars(select(Input.body).where(Input.session_id == at_terminal.id)).all()
    assert typed == b"x\r"


def test_a_line_that_the_server_hung_up_is_made_anew(database: Database) -> None:
    line = Line(database)
    (first,) = line.rows("SELECT pg_backend_pid()", {})
    with database.transaction() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": first[0]})

    with pytest.raises(DatabaseUnavailable):
        line.rows("SELECT 1", {})
    (again,) = line.rows("SELECT pg_backend_pid()", {})
    assert again != first

    with database.transaction() as tx:
        tx.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": again[0]})
    line._used_at -= 2  # it has rested: it is asked whether it stands before a write is trusted to it
    assert line.rows("SELECT 1", {}) == [(1,)]
    line.close()


def test_a_line_to_a_server_that_takes_nothing_is_given_up(database: Database) -> None:
    line = Line(database)
    line.rows("SET default_transaction_read_only = on; SELECT 1", {})

    with pytest.raises(DatabaseUnavailable):
        line.rows("DELETE FROM tickets WHERE false RETURNING 1", {})

    assert line.rows("DELETE FROM tickets WHERE false RETURNING 1", {}) == []
    line.close()
