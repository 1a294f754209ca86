"""What is not to be trusted: a wall clock, which somebody sets, and a pid, which the system gives to the next one."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from sqlalchemy import text

from core.ids import uuid7
from core.settings import load_settings
from models import backlog, claims, openings, sessions, workers
from models.database import Database
from models.lifecycle import Reason, Status
from models.openings import Caps, NewSession
from runner import marks
from runner.marks import TAG_BASE, Found
from runner.supervision import MarkStopping, Rules, Supervision
from streams.appender import Appender
from streams.redis import connect
from tasks.housekeeping import Housekeeper, Means
from tasks.queue import sender
from tasks.takeover import Salvage
from tests.checks import eventually, holds_for, is_alive
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from core.settings import Settings
    from jelmore.embedded import Valkey

HOUR = 3600.0


@pytest.fixture
def settings(database_url: str, valkey: Valkey) -> Settings:
    return load_settings({"DATABASE_URL": database_url, "REDIS_URL": valkey.url})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = Database.open(settings, pool_size=3)
    yield opened
    opened.close()


def housekeeper(settings: Settings, database: Database, clock: FakeClock) -> Housekeeper:
    queue = sender(settings)
    salvage = Salvage(settings, database, Appender(connect(settings), settings), queue)
    broker = Redis.from_url(settings.celery_broker_url, protocol=2)
    return Housekeeper(Means(settings, database, salvage, queue, broker, clock))


def arrive(database: Database, name: str) -> UUID:
    incarnation = uuid7()
    arrival = workers.Arrival(incarnation, name, "host", f"{incarnation}@host", 1, 8, "0")
    with database.transaction() as tx:
        workers.arrive(tx, arrival, at=datetime.now(UTC))
    return incarnation


def open_session(database: Database, at: datetime) -> UUID:
    with database.transaction() as tx:
        spec = NewSession("ada", "key", "shell", "true", 60)
        session_id: UUID = openings.open_session(tx, spec, Caps(None), at=at).id
    return session_id


def claimed(database: Database, clock: FakeClock) -> tuple[UUID, UUID]:
    """Return a session and the worker that has claimed it."""
    worker, session_id = arrive(database, str(uuid7())), open_session(database, clock.at())
    with database.transaction() as tx:
        assert claims.claim(tx, session_id, worker, "delivery")
    return session_id, worker


def spare_nobody(database: Database) -> None:
    """After its first round, or a gap, housekeeping waits before it declares anybody lost: let that be over."""
    with database.transaction() as tx:
        tx.execute(text("UPDATE housekeeping SET spared_until = NULL"))


def fall_silent(database: Database, worker: UUID, seconds: float) -> None:
    """Let a worker's last sign of life be so long ago."""
    ago = text(
        "UPDATE workers SET seen_at = clock_timestamp() - make_interval(secs => :ago) WHERE incarnation = :worker"
    )
    with database.transaction() as tx:
        tx.execute(ago, {"ago": seconds, "worker": worker})


@pytest.mark.case(24)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_wall_clock_that_jumps_an_hour_declares_nobody_lost_and_ends_nothing(
    settings: Settings, database: Database, jump: float
) -> None:
    clock = FakeClock(datetime.now(UTC))
    house = housekeeper(settings, database, clock)
    session_id, worker = claimed(database, clock)
    house.round()

    clock.jump(jump)
    for _ in range(3):
        house.round()
        clock.advance(settings.housekeeping_interval_seconds)

    with database.transaction() as tx:
        holdings = workers.renew(tx, worker)
        assert holdings is not None
        assert [held.session_id for held in holdings] == [session_id]
        assert sessions.locked(tx, session_id).status == Status.INITIALIZING


@pytest.mark.case(24)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_silent_worker_is_lost_after_its_time_whatever_the_wall_clock_says(
    settings: Settings, database: Database, jump: float
) -> None:
    clock = FakeClock(datetime.now(UTC))
    house = housekeeper(settings, database, clock)
    session_id, worker = claimed(database, clock)
    house.round()

    spare_nobody(database)
    clock.jump(jump)
    fall_silent(database, worker, settings.lease_seconds)
    house.round()
    with database.transaction() as tx:
        assert sessions.locked(tx, session_id).status == Status.INITIALIZING
    fall_silent(database, worker, settings.lease_seconds + settings.lease_margin_seconds + 0.1)
    house.round()

    with database.transaction() as tx:
        assert workers.renew(tx, worker) is None
        ended = sessions.locked(tx, session_id)
        assert (ended.status, ended.reason) == (Status.FAILED, Reason.WORKER_LOST)


@pytest.mark.case(24)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_lost_start_is_sent_again_in_its_time_though_a_web_processs_clock_was_wrong(
    settings: Settings, database: Database, jump: float
) -> None:
    house = housekeeper(settings, database, FakeClock(datetime.now(UTC)))
    session_id = open_session(database, datetime.now(UTC) + timedelta(seconds=jump))

    with database.transaction() as tx:
        assert session_id not in [
            waiting.session_id for waiting in backlog.unclaimed(tx, settings.resend_after_seconds)
        ]
        assert session_id in [waiting.session_id for waiting in backlog.unclaimed(tx, 0)]
    house.round()


@pytest.mark.case(24)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_sessions_time_runs_by_the_clock_that_nobody_sets(jump: float) -> None:
    clock = FakeClock()
    running = Supervision(Rules(grace_seconds=5, run_seconds=60, drain_seconds=5, max_output_bytes=None))
    running.started(clock.now())

    clock.jump(jump)
    clock.advance(59)
    assert running.tick(clock.now()) == []
    clock.advance(1)
    action = running.tick(clock.now())[0]
    assert isinstance(action, MarkStopping)
    assert action.stop.reason is Reason.TIMEOUT


# Pids.


@pytest.fixture
def stranger() -> Iterator[Found]:
    """A process that carries a session's mark."""
    tag = random.getrandbits(24) << 16 | 1

    def carry() -> None:
        resource.setrlimit(resource.RLIMIT_RTTIME, (TAG_BASE + tag, TAG_BASE + tag))

    with subprocess.Popen(["/bin/sleep", "1000"], preexec_fn=carry) as process:  # noqa: PLW1509
        started = marks.started(process.pid)
        assert started is not None
        yield Found(process.pid, started, tag)
        process.kill()


@pytest.mark.case(56)
def test_a_process_that_was_found_is_killed(stranger: Found) -> None:
    assert marks.find(lambda found: found.tag == stranger.tag) == [stranger]
    marks.kill(stranger)
    eventually(lambda: not is_alive(stranger.pid))


@pytest.mark.case(56)
@pytest.mark.parametrize("change", [{"tag": 1}, {"started": 1}], ids=["of another session", "started at another time"])
def test_a_process_that_got_the_pid_of_one_that_was_found_is_left_alone(
    stranger: Found, change: dict[str, int]
) -> None:
    other = {name: getattr(stranger, name) + difference for name, difference in change.items()}
    marks.kill(replace(stranger, **other))
    marks.kill(Found(os.getpid(), marks.started(os.getpid()) or 0, stranger.tag))

    holds_for(lambda: is_alive(stranger.pid), 0.2)


@pytest.mark.case(56)
def test_a_process_that_is_gone_is_not_killed_again(stranger: Found) -> None:
    os.kill(stranger.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(stranger.pid))
    marks.kill(stranger)


@pytest.mark.case(56)
def test_a_sweep_of_one_incarnation_leaves_others_processes_alone(stranger: Found) -> None:
    assert marks.sweep(lambda found: found.incarnation == stranger.incarnation + 1) == 0
    assert is_alive(stranger.pid)
    assert marks.sweep(lambda found: found.incarnation == stranger.incarnation) == 1
    eventually(lambda: not is_alive(stranger.pid))
