"""The chain of seals over audit rows: nobody changes, removes or slips in a sealed row without its being found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from core.ids import uuid7
from core.settings import load_settings
from models import audit, audit_chain, audit_proof, tickets
from models.audit import Deed
from models.database import Database
from models.tables import AuditAnchor, AuditRow
from models.tickets import Bearer
from tasks.sealing import Sealer
from tests.checks import eventually
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.audit_proof import Proof

AT = datetime(2026, 1, 1, tzinfo=UTC)
DETAIL = {"number": 0.1, "large": 2**63, "text": "ä", "list": [1, None, {"a": ""}]}


@pytest.fixture(scope="module")
def shared(new_database: Callable[[], str]) -> Iterator[Database]:
    """A database of these tests' own: they damage it. Each empties it first."""
    opened = Database.open(load_settings({"DATABASE_URL": new_database()}), pool_size=5)
    yield opened
    opened.close()


@pytest.fixture
def database(shared: Database) -> Database:
    return emptied(shared)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(AT)


@pytest.fixture
def sealer(database: Database, clock: FakeClock) -> Sealer:
    return Sealer(database, load_settings({"RETENTION_AUDIT_SECONDS": "1000"}), clock)


def emptied(database: Database) -> Database:
    execute(database, "TRUNCATE audit, audit_anchors, tickets RESTART IDENTITY")
    return database


def execute(database: Database, statement: str, **values: Any) -> None:
    with database.transaction() as tx:
        tx.execute(text(statement), values)


def write(database: Database, count: int, **more: Any) -> None:
    deeds = [
        Deed("ada", "session.create", "ok", AT + timedelta(seconds=n), detail=DETAIL, **more) for n in range(count)
    ]
    with database.transaction() as tx:
        audit.record(tx, *deeds)


def seal(sealer: Sealer) -> None:
    """Rounds until all is sealed: one to see how far rows may be, one to do it, more while others use the server."""

    def done() -> bool:
        sealer.round()
        return verified(sealer._database).unsealed == 0

    eventually(done)


def verified(database: Database, outside: dict[int, bytes] | None = None) -> Proof:
    with database.transaction() as tx:
        return audit_proof.verify(tx, outside)


def bad_row(database: Database) -> int | None:
    fault = verified(database).fault
    assert fault is not None
    return fault.audit_id


def anchors(database: Database) -> list[int]:
    with database.transaction() as tx:
        return list(tx.scalars(select(AuditAnchor.position).order_by(AuditAnchor.position)))


def test_a_deed_is_read_back_as_it_was_written(database: Database) -> None:
    deed = Deed("ada", "session.create", "ok", AT, uuid7(), "team", "target", "::1", "r", DETAIL)
    with database.transaction() as tx:
        audit.record(tx, deed)
        audit.record(tx)
        (row,) = audit.list_rows(tx, audit.AuditQuery(owner="team"))

    assert Deed(**{name: getattr(row, name) for name in Deed.__dataclass_fields__}) == deed


def test_an_empty_chain_holds(database: Database, sealer: Sealer) -> None:
    seal(sealer)

    assert (verified(database).rows, verified(database).fault) == (0, None)


def test_rows_are_sealed_once_every_transaction_before_them_is_over(database: Database, sealer: Sealer) -> None:
    with database.transaction() as slow:
        audit.record(slow, Deed("slow", "x", "ok", AT))
        write(database, 3)
        for _ in range(3):
            sealer.round()
        assert verified(database).unsealed == 3
    write(database, 1)
    seal(sealer)

    with database.transaction() as tx:
        rows = tx.execute(select(AuditRow.actor, AuditRow.position).order_by(AuditRow.id)).all()
    assert [row.position for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].actor == "slow"
    assert verified(database).fault is None


def test_a_row_that_was_rolled_back_is_no_missing_row(database: Database, sealer: Sealer) -> None:
    write(database, 2)
    with database.transaction() as tx:
        audit.record(tx, Deed("ada", "x", "ok", AT))
        tx.rollback()
    write(database, 2)
    seal(sealer)

    assert (verified(database).rows, verified(database).fault) == (4, None)
    assert verified(database).head.audit_id == 5


def test_new_rows_are_no_fault_and_are_counted(database: Database, sealer: Sealer) -> None:
    write(database, 2)
    seal(sealer)
    write(database, 3)

    assert (verified(database).rows, verified(database).unsealed, verified(database).fault) == (2, 3, None)


COLUMNS = {
    "at": "at + interval '1 microsecond'",
    "actor": "'eve'",
    "key_id": "gen_random_uuid()",
    "owner": "''",
    "action": "'session.show'",
    "target": "'x'",
    "outcome": "'OK'",
    "address": "'::1'",
    "request_id": "'1'",
    "detail": "jsonb_set(detail, '{number}', '0.1000000000000000055')",
    "seal": "sha256(seal)",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_row_is_named_whatever_was_changed(database: Database, sealer: Sealer, column: str) -> None:
    write(database, 9)
    seal(sealer)
    execute(database, f"UPDATE audit SET {column} = {COLUMNS[column]} WHERE id = 5")

    assert bad_row(database) == 5


def test_every_column_is_under_the_seal() -> None:
    assert set(COLUMNS) | {"id", "position"} == set(AuditRow.__table__.columns.keys())


@pytest.mark.parametrize("removed", ["id = 1", "id <= 3", "id = 5", "id IN (4, 5)", "id = 9", "id >= 8", "true"])
def test_missing_rows_are_found_wherever_they_stood(database: Database, sealer: Sealer, removed: str) -> None:
    write(database, 9)
    seal(sealer)
    execute(database, f"DELETE FROM audit WHERE {removed}")

    assert bad_row(database) is None


def test_a_row_removed_with_its_place_taken_by_others_is_found(database: Database, sealer: Sealer) -> None:
    write(database, 9)
    seal(sealer)
    execute(database, "DELETE FROM audit WHERE id = 5")
    for audit_id in range(6, 10):
        execute(database, "UPDATE audit SET position = position - 1 WHERE id = :id", id=audit_id)

    assert bad_row(database) == 6


def test_a_row_with_an_old_id_was_slipped_in(database: Database, sealer: Sealer) -> None:
    write(database, 4)
    execute(database, "SELECT nextval(pg_get_serial_sequence('audit', 'id'))")  # as a rolled back row takes one
    write(database, 4)
    seal(sealer)
    slip = (
        "INSERT INTO audit (id, at, actor, action, outcome) OVERRIDING SYSTEM VALUE VALUES (5, now(), 'eve', 'x', 'ok')"
    )
    execute(database, slip)
    write(database, 1)
    seal(sealer)

    assert bad_row(database) == 5


def test_a_row_whose_seal_was_taken_away_is_named(database: Database, sealer: Sealer) -> None:
    write(database, 9)
    seal(sealer)
    execute(database, "UPDATE audit SET seal = NULL, position = NULL WHERE id = 5")
    seal(sealer)

    assert bad_row(database) == 5


def test_a_row_behind_the_head_is_named_and_the_chain_goes_on(database: Database, sealer: Sealer) -> None:
    write(database, 3)
    seal(sealer)
    forged = "INSERT INTO audit (at, actor, action, outcome, position, seal) VALUES (now(), 'eve', 'x', 'ok', 4, 'x')"
    execute(database, forged)
    assert bad_row(database) == 4

    write(database, 3)
    seal(sealer)

    assert verified(database).head.position == 7
    assert bad_row(database) == 4


def test_a_chain_forged_from_a_row_on_is_betrayed_by_its_anchor(database: Database, sealer: Sealer) -> None:
    write(database, 9)
    seal(sealer)
    execute(database, "UPDATE audit SET actor = 'eve' WHERE id = 3")
    before = seal_at(database, 2)
    with database.transaction() as tx:
        for row in tx.execute(select(*audit_chain.COLUMNS).where(AuditRow.position > 2).order_by(AuditRow.id)).all():
            before = audit_chain.seal_of(before, row.position, row)
            tx.execute(text("UPDATE audit SET seal = :seal WHERE id = :id"), {"seal": before, "id": row.id})

    assert bad_row(database) == 9


def seal_at(database: Database, position: int) -> bytes:
    with database.transaction() as tx:
        seal = tx.scalar(select(AuditRow.seal).where(AuditRow.position == position))
    assert seal is not None
    return bytes(seal)


def test_whoever_forges_the_anchors_too_is_betrayed_by_what_was_logged(database: Database, sealer: Sealer) -> None:
    write(database, 5)
    seal(sealer)
    logged = {5: seal_at(database, 5)}
    assert verified(database, logged).fault is None
    execute(database, "TRUNCATE audit, audit_anchors")
    write(database, 5)
    seal(sealer)
    assert verified(database).fault is None

    assert verified(database, logged).fault is not None
    assert verified(database, {77: b"x" * 32}).fault is not None


def test_retention_removes_the_beginning_and_the_rest_still_holds(
    database: Database, sealer: Sealer, clock: FakeClock
) -> None:
    for _ in range(3):
        write(database, 4)  # one a second
        seal(sealer)
    clock.advance(1002)
    seal(sealer)
    assert (verified(database).rows, verified(database).fault, anchors(database)) == (10, None, [2, 12])

    clock.advance(1000)
    seal(sealer)
    assert (verified(database).rows, verified(database).fault, anchors(database)) == (0, None, [12])
    write(database, 3)
    seal(sealer)
    assert (verified(database).rows, verified(database).fault, anchors(database)) == (3, None, [12, 15])

    execute(database, "DELETE FROM audit WHERE id = 13")
    assert bad_row(database) is None


def test_unused_tickets_are_removed_in_time(database: Database, sealer: Sealer, clock: FakeClock) -> None:
    with database.transaction() as tx:
        for _ in range(2):
            tickets.issue(tx, uuid7(), ["read"], Bearer(None, "ada"))
        tx.execute(text("UPDATE tickets SET expires_at = now() WHERE digest = (SELECT min(digest) FROM tickets)"))
    sealer.round()

    with database.transaction() as tx:
        assert tx.scalar(text("SELECT count(*) FROM tickets")) == 1


CHANGES = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 12)),
    st.tuples(st.just("delete"), st.integers(1, 12)),
    st.tuples(st.just("insert"), st.sampled_from([3, 7])),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(CHANGES, min_size=1, max_size=4), batch=st.integers(1, 5))
def test_the_first_damaged_row_is_the_one_that_is_found(
    shared: Database, damage: list[tuple[str, int]], batch: int
) -> None:
    database = emptied(shared)
    for number in range(1, 13):
        if number in (3, 7):
            execute(database, "SELECT nextval(pg_get_serial_sequence('audit', 'id'))")
        else:
            write(database, 1)
    at = datetime.now(UTC)
    with database.transaction() as tx:
        up_to = audit_chain.mark(tx)
    assert up_to is not None
    with database.transaction() as tx:
        while audit_chain.seal(tx, up_to, at=at, limit=batch)[0]:
            pass
    assert verified(database).fault is None

    touched, gone = set[int](), set[int]()
    slip = (
        "INSERT INTO audit (id, at, actor, action, outcome) OVERRIDING SYSTEM VALUE "
        "VALUES (:id, now(), 'eve', 'x', 'ok') ON CONFLICT DO NOTHING"
    )
    statements = {
        "change": "UPDATE audit SET actor = actor || '!' WHERE id = :id",
        "delete": "DELETE FROM audit WHERE id = :id",
        "insert": slip,
    }
    for kind, audit_id in damage:
        if kind == "insert" or audit_id not in (3, 7):
            execute(database, statements[kind], id=audit_id)
            touched.add(audit_id)
            gone |= {audit_id} if kind == "delete" else set()
    fault = verified(database).fault

    assert (fault is not None) == bool(touched)
    if fault is not None and fault.audit_id is not None:
        # What is missing has no name; what stands there is named, and nothing before it was changed.
        assert fault.audit_id in touched
        assert {touched_id for touched_id in touched if touched_id < fault.audit_id} <= gone
