"""Servers that answer, and refuse to take anything: what is printed waits or is stored elsewhere, and nothing is dropped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2
import pytest

from tests.checks import eventually, holds_for, how, marked, runs, wait
from tests.client import SESSIONS, Reader
from tests.programs.shell import ANSWERS, endless, is_numbered_lines, lines, steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.service import Service

ENDED_BY_THE_LEASE = {("failed", "worker_lost"), ("failed", "keeper_lost")}
KIB, MIB = 1024, 1024 * 1024
REFUSED = "Redis refused an append"
DISK_FULL = """
    CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
    CREATE TRIGGER disk_full BEFORE INSERT ON segments FOR EACH STATEMENT EXECUTE FUNCTION disk_full();
    CREATE TRIGGER disk_full BEFORE INSERT ON sessions FOR EACH STATEMENT EXECUTE FUNCTION disk_full();
"""
ROOM_AGAIN = "DROP FUNCTION disk_full() CASCADE"


def execute(service: Service, *statements: str) -> None:
    connection = psycopg2.connect(service.database_url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


@contextmanager
def full_disk(service: Service) -> Iterator[None]:
    """Let PostgreSQL refuse new rows as it does when its disk is full: what is there can be read and changed."""
    execute(service, DISK_FULL)
    try:
        yield
    finally:
        execute(service, ROOM_AGAIN)


@contextmanager
def read_only(service: Service) -> Iterator[None]:
    """Let PostgreSQL refuse every write, as one does that lost its place to another in a fail-over."""
    connection = psycopg2.connect(service.database_url)
    name = connection.get_dsn_parameters()["dbname"]
    connection.close()
    execute(service, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    try:
        disconnect_all(service)
        yield
    finally:
        reset = f'ALTER DATABASE "{name}" RESET default_transaction_read_only'
        execute(service, "SET default_transaction_read_only = off", reset)
        disconnect_all(service)


def disconnect_all(service: Service) -> None:
    """End every connection, so that the next ones find the new setting."""
    ours = "datname = current_database() AND pid <> pg_backend_pid()"
    execute(service, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")


@pytest.mark.case(10)
def test_a_redis_without_memory_costs_no_session_and_no_byte_and_says_so(staffed: Service) -> None:
    ada, redis = staffed.ada, staffed.redis()
    worker = staffed.worker("one")
    count = 40
    printing = [ada.create(steady(count, 0.1)) for _ in range(3)]
    answering = ada.create(ANSWERS)
    readers = [Reader(ada, session_id) for session_id in printing]
    eventually(lambda: all(reader.size for reader in readers) and runs(ada.get(answering)))
    said_before = len(worker.said())
    redis.config_set("maxmemory", "1")
    try:
        sizes = [reader.size for reader in readers]
        ada.input(answering, "hello")
        later = ada.create("echo later")
        eventually(lambda: ada.output(answering).endswith(b"got hello\n"))
        eventually(lambda: all(reader.size > size + 20 for reader, size in zip(readers, sizes, strict=True)))
        eventually(lambda: REFUSED in worker.said()[said_before:], 3)
    finally:
        redis.config_set("maxmemory", "0")

    assert how(ada.events(later)[-1].data) == ("completed", "exited")
    for session_id, reader in zip(printing, readers, strict=True):
        assert how(reader.finish()) == ("completed", "exited")
        assert ada.output(session_id) == lines(count)
    assert worker.alive


@pytest.mark.case(15)
def test_a_postgres_whose_disk_is_full_makes_programs_wait_and_drops_nothing(
    staffed: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, worker = staffed.ada, staffed.worker("one")
    size = 16 * MIB
    quiet, loud, ending = (
        ada.create(ANSWERS),
        ada.create(f"read go; yes | head -c {size}"),
        ada.create("read go; echo over"),
    )
    eventually(lambda: all(runs(ada.get(each)) for each in (quiet, loud, ending)))
    idle_kib = worker.memory_kib("VmRSS")
    before = [ada.get(each) for each in (quiet, loud, ending)]
    reader = Reader(ada, loud)
    with full_disk(staffed):
        for session_id in (loud, ending):
            assert ada.input(session_id, "go").status == 200
        refused = ada.request("POST", SESSIONS, {"query": "true"})
        waits_at = eventually(lambda: stands_still(reader), 20)
        holds_for(lambda: staffed.leftovers() != [], staffed.seconds("LEASE_SECONDS") + 1, every=0.5)
        grown_kib = worker.memory_kib("VmRSS") - idle_kib

    with capsys.disabled():
        print(f"\n  full disk: the program waits after {waits_at // KIB} KiB; the worker grew {grown_kib // KIB} MiB")
    assert refused.status == 503
    assert grown_kib < 32 * KIB
    assert waits_at < size
    assert how(reader.finish()) == ("completed", "exited")
    assert ada.output(loud) == b"y\n" * (size // 2)
    assert how(ada.events(ending)[-1].data) == ("completed", "exited")
    assert ada.output(ending) == b"over\n"
    assert ada.get(quiet)["claude_process_id"] == before[0]["claude_process_id"]
    with ada.follow(quiet, "?tail=0&events=output") as stream:
        ada.input(quiet, "hello")
        assert stream.until("output")[-1].content.endswith(b"got hello\n")


def stands_still(reader: Reader) -> int:
    """Return how much has been read once nothing more comes, else 0."""
    size = reader.size
    wait(1)
    return size if size == reader.size else 0


@pytest.mark.case(13, 15)
def test_a_postgres_that_takes_no_writes_for_longer_than_the_lease_ends_the_sessions_and_no_worker(
    staffed: Service,
) -> None:
    ada, worker, lease = staffed.ada, staffed.worker("one"), staffed.seconds("LEASE_SECONDS")
    sessions = [ada.create(endless(0.1)) for _ in range(3)]
    readers = [Reader(ada, session_id, limit_seconds=90) for session_id in sessions]
    eventually(lambda: all(reader.size for reader in readers))
    incarnation = staffed.incarnations("one")[-1]
    with read_only(staffed):
        refused = ada.request("POST", SESSIONS, {"query": "true"})
        shown = ada.request("GET", f"{SESSIONS}/{sessions[0]}")
        eventually(lambda: marked([incarnation]) == [], lease + 1)
        wait(lease / 2)
        assert worker.alive, worker.said()[-2000:]

    assert (refused.status, refused.json()["error_code"]) == (503, "DATABASE_UNAVAILABLE")
    assert shown.status == 200
    # The first one may be who finds out that the pooled connections were ended; the others find new ones.
    eventually(lambda: ada.request("GET", SESSIONS).status == 200, 1)
    for session_id, reader in zip(sessions, readers, strict=True):
        assert how(reader.finish()) in ENDED_BY_THE_LEASE
        assert is_numbered_lines(ada.output(session_id))
    assert how(ada.events(ada.create("true"))[-1].data) == ("completed", "exited")
    assert staffed.beat.alive
