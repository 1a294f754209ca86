"""Who may run a session, and until when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from core.errors import Fenced
from models import claims, sessions, workers
from models.claims import Progress, Shown, Started
from models.events import Origin
from models.lifecycle import Reason, Status
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from models.database import Database
    from models.tables import Session

HERE = Origin("test")


def claim(database: Database, session: Session, worker: UUID, delivery: str) -> Session | None:
    with database.transaction() as tx:
        return claims.claim(tx, session.id, worker, delivery)


def test_two_workers_never_claim_the_same_session(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    everybody = [new_worker() for _ in range(10)]
    for _ in range(10):
        session = new_session()
        with ThreadPoolExecutor(10) as crowd:
            tries = [crowd.submit(claim, database, session, worker, f"d-{worker}") for worker in everybody]
        won = [each.result() for each in tries if each.result()]

        assert len(won) == 1


def test_a_delivery_whose_reply_was_lost_finds_its_own_claim(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    session, worker = new_session(), new_worker()
    first = claim(database, session, worker, "d")
    again = claim(database, session, worker, "d")

    assert first is not None
    assert again is not None
    assert again.fence == first.fence + 1
    assert claim(database, session, worker, "another delivery") is None


def test_a_lost_worker_claims_nothing(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    worker = new_worker()
    with database.transaction() as tx:
        workers.leave(tx, worker)

    assert claim(database, new_session(), worker, "d") is None


def test_a_draining_worker_claims_nothing(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    worker = new_worker()
    with database.transaction() as tx:
        workers.drain(tx, worker)

    assert claim(database, new_session(), worker, "d") is None


def test_a_session_that_was_stopped_while_it_waited_is_never_claimed(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID], at: datetime
) -> None:
    session = new_session()
    with database.transaction() as tx:
        sessions.ask_to_stop(tx, sessions.locked(tx, session.id), Reason.REQUESTED, None, HERE, at=at)

    assert claim(database, session, new_worker(), "d") is None


def test_whoever_was_fenced_may_not_say_that_it_runs(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID], at: datetime
) -> None:
    session = claim(database, new_session(), new_worker(), "d")
    assert session is not None
    with database.transaction() as tx:
        claims.take_fence(tx, session.id)

    with pytest.raises(Fenced), database.transaction() as tx:
        claims.started(tx, session.id, session.fence, Started(1, "/"), HERE, at=at)


def test_a_stop_that_overtook_the_start_stays(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID], at: datetime
) -> None:
    session = claim(database, new_session(), new_worker(), "d")
    assert session is not None
    with database.transaction() as tx:
        sessions.ask_to_stop(tx, sessions.locked(tx, session.id), Reason.REQUESTED, None, HERE, at=at)
    with database.transaction() as tx:
        now = claims.started(tx, session.id, session.fence, Started(1, "/"), HERE, at=at)

    assert now.status == Status.TERMINATING


def test_a_renewal_reads_back_what_is_held(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    worker = new_worker()
    mine = claim(database, new_session(), worker, "d")
    claim(database, new_session(), new_worker(), "d")
    assert mine is not None

    with database.transaction() as tx:
        holdings = workers.renew(tx, worker)

    assert holdings is not None
    assert [(holding.session_id, holding.fence) for holding in holdings] == [(mine.id, mine.fence)]


def test_a_worker_without_sessions_renews_and_a_lost_one_does_not(
    database: Database, new_worker: Callable[..., UUID]
) -> None:
    worker = new_worker()
    with database.transaction() as tx:
        assert workers.renew(tx, worker) == []
        workers.leave(tx, worker)
    with database.transaction() as tx:
        assert workers.renew(tx, worker) is None


def test_a_new_incarnation_of_a_name_declares_its_predecessor_lost(
    database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID]
) -> None:
    old = new_worker("w1")
    session = claim(database, new_session(), old, "d")
    assert session is not None
    new = new_worker("w1")

    with database.transaction() as tx:
        assert workers.renew(tx, old) is None
        assert workers.renew(tx, new) == []
        assert session.id in workers.abandoned(tx)


def test_nobody_is_declared_lost_before_the_time_is_up(
    database: Database, new_worker: Callable[..., UUID], at: datetime
) -> None:
    new_worker()
    with database.transaction() as tx:
        assert workers.declare_lost(tx, 60, at=at) == []
        assert len(workers.declare_lost(tx, 0, at=at)) >= 1


def test_after_a_gap_in_housekeeping_everybody_is_spared(database: Database) -> None:
    def run(gap: float) -> bool:
        with database.transaction() as tx:
            return workers.note_run(tx, "rounds", gap_seconds=gap, spare_seconds=60)

    with database.transaction() as tx:
        assert workers.note_run(tx, "rounds", gap_seconds=60, spare_seconds=0) is False
    assert run(gap=60) is False
    assert run(gap=0) is True
    assert run(gap=60) is True


@pytest.mark.parametrize("what", ["counters", "statuses"])
def test_several_sessions_are_locked_in_one_order_so_that_nobody_deadlocks(
    what: str, database: Database, new_session: Callable[..., Session], new_worker: Callable[..., UUID], at: datetime
) -> None:
    worker = new_worker()
    made = [claim(database, new_session(), worker, "d") for _ in range(2)]
    second, first = sorted((session for session in made if session), key=lambda session: session.id, reverse=True)
    for session in (second, first):  # in the table they stand the other way round, too
        with database.transaction() as tx:
            claims.started(tx, session.id, session.fence, Started(1, "/"), HERE, at=at)

    def write() -> None:
        with database.transaction() as tx:
            if what == "counters":
                claims.save_progress(tx, [Progress(each.id, each.fence, 1, 1, at) for each in (second, first)])
            else:
                claims.show(tx, [Shown(each.id, each.fence, Status.IDLE) for each in (second, first)], HERE, at=at)

    def waits() -> bool:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with database.transaction() as tx:
            return bool(tx.scalar(text(waiting)))

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as tx:
            sessions.locked(tx, first.id)
            writing = pool.submit(write)
            eventually(waits)
            tx.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR NO KEY UPDATE NOWAIT"), {"id": second.id})
        writing.result()
