"""Requests at 16 connections: how many a second, how long they take, and what each costs of the processors.

What is created is counted in the database, and every task is taken by a real worker once the clock has stopped: a row or a
task that is missing makes the run void. That worker only takes messages; nothing is run beside what is measured.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import psycopg2
from redis import Redis

from benchmarks import load
from benchmarks.client import SESSIONS
from benchmarks.load import Load, Order
from benchmarks.measures import wait_until
from benchmarks.samples import Void

if TYPE_CHECKING:
    from benchmarks.fronts import Front
    from benchmarks.processes import Running

TABLES: Final = """
    CREATE TABLE IF NOT EXISTS textbook_sessions (
        id uuid PRIMARY KEY, query text NOT NULL, user_id varchar(256), current_directory text,
        status varchar(32) NOT NULL, data json NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
    );
    CREATE TABLE IF NOT EXISTS rival_sessions (LIKE textbook_sessions INCLUDING ALL);
"""
END: Final = """
    UPDATE sessions SET status = 'terminated', ended_at = now(), worker = NULL WHERE ended_at IS NULL
"""
LIVE: Final = """
    INSERT INTO workers (incarnation, name, host, node, pid, slots, version)
    VALUES (%(worker)s, 'bench', 'bench', 'bench@bench', 1, 100, '0');
    UPDATE sessions SET ended_at = NULL, status = 'active', worker = %(worker)s WHERE id = ANY(CAST(%(ids)s AS uuid[]))
"""
INPUT: Final = '{"input": "a line of some words, as people type them"}'
INPUT_TABLES: Final = ("inputs", "events WHERE event_type = 'session.input'", "audit WHERE action = 'session.input'")


class Answering:
    """Measures fronts. `roots`: the processes of PostgreSQL and Redis."""

    def __init__(
        self, running: Running, addresses: dict[str, str], roots: dict[str, list[int]], seconds: float
    ) -> None:
        self._running = running
        self._roots = roots
        self._seconds = seconds
        self._redis = Redis.from_url(addresses["REDIS_URL"])
        self._database = psycopg2.connect(addresses["DATABASE_URL"])
        self._database.autocommit = True
        self._execute(TABLES)

    def creating(self, front: Front) -> dict[str, float]:
        """Measure what makes a session, or in Flower sends a task."""
        before = self._counts(front.tables)
        done = self._put(front, "POST", [front.path], front.body)
        self._check_rows(front.tables, before, done.answered)
        if front.taker:
            self._take(front, done.answered)
        if front.name == "Jelmore":
            self._execute(END)
        return _figures(done)

    def showing(self, front: Front) -> dict[str, float]:
        """Measure a look at one of sixteen sessions; of the no-op its one path."""
        paths = [SESSIONS] if front.name == "no-op" else [f"{SESSIONS}/{each}" for each in self._ended()]
        return _figures(self._put(front, "GET", paths, ""))

    def typing(self, front: Front) -> dict[str, float]:
        """Measure input, each connection its own session's. Their worker is one that does nothing: a row that never reads."""
        if front.name == "no-op":
            return _figures(self._put(front, "POST", [SESSIONS], INPUT))
        ids = self._ended()
        self._execute(LIVE, worker=str(uuid.uuid4()), ids=ids)
        before = self._counts(INPUT_TABLES)
        done = self._put(front, "POST", [f"{SESSIONS}/{each}/input" for each in ids], INPUT)
        self._check_rows(INPUT_TABLES, before, done.answered)
        self._redis.delete("bench@bench.dq2")
        self._execute(END)
        return _figures(done)

    def close(self) -> None:
        """Hang up."""
        self._database.close()
        self._redis.close()

    def _put(self, front: Front, method: str, paths: list[str], body: str) -> Load:
        watched = {**self._roots, "web": [front.root]}
        return load.put(Order(front.port, method, paths, body, self._seconds, watched))

    def _ended(self) -> list[str]:
        """Return sixteen sessions."""
        with self._database.cursor() as cursor:
            cursor.execute("SELECT id::text FROM sessions ORDER BY id DESC LIMIT %s", (load.CONNECTIONS,))
            found = [found for (found,) in cursor.fetchall()]
        if len(found) < load.CONNECTIONS:
            raise Void("there are no sixteen sessions")
        return found

    def _check_rows(self, tables: tuple[str, ...], before: list[int], answered: int) -> None:
        for table, then, now in zip(tables, before, self._counts(tables), strict=True):
            if now - then != answered:
                raise Void(f"{answered} answers, but {now - then} rows in {table}")

    def _counts(self, tables: tuple[str, ...]) -> list[int]:
        counts: list[int] = []
        with self._database.cursor() as cursor:
            for table in tables:
                cursor.execute(f"SELECT count(*) FROM {table}")
                counts += [count for (count,) in cursor.fetchall()]
        return counts

    def _take(self, front: Front, sent: int) -> None:
        """Let a real worker take what was sent, each once."""
        taken = f"bench:taken:{uuid.uuid4()}"
        worker = self._running.start("taker", front.taker, {**front.env, "TAKEN": taken})
        try:
            wait_until(lambda: self._redis.scard(taken) >= sent, f"a worker takes {sent} tasks of {front.name}")
        finally:
            self._running.end(worker)
        if (found := self._redis.scard(taken)) != sent:
            raise Void(f"{sent} answers, but {found} tasks")
        self._redis.delete(taken)

    def _execute(self, statement: str, **values: object) -> None:
        with self._database.cursor() as cursor:
            cursor.execute(statement, values)


def _figures(done: Load) -> dict[str, float]:
    return {
        "requests/s": done.rate,
        "p50 ms": done.milliseconds["p50"],
        "p99 ms": done.milliseconds["p99"],
        "web CPU µs": done.microseconds("web"),
        "all servers' CPU µs": done.microseconds("web", "postgres", "valkey"),
        "load's own CPU µs": done.microseconds("load"),
    }
