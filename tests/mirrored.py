"""An outbox, writers that fill it, mirrors that empty it into a NATS of their own, and consumers that compare."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import nats
import nats.errors
from nats.js.errors import APIError

from core.errors import DatabaseUnavailable
from core.ids import uuid7
from core.settings import load_settings
from models import feed, outbox
from models.database import Database
from models.events import BEGINNING, EventKind, NewEvent, Origin
from tests.leaks import KNOWN
from tests.member import Member

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from uuid import UUID

    from jelmore.embedded import Nats, Postgres

MIRROR: Final = ("streams.mirror",)
HERE: Final = Origin("test", "r-1")


@dataclass
class Mirrored:
    """An outbox and its mirrors."""

    home: Path
    database_url: str
    nats: Nats
    postgres: Postgres
    settings: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database.open(load_settings({"DATABASE_URL": self.database_url}), pool_size=12)

    def env(self) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.defpath]),  # noqa: PTH120  (as it was called)
            "DATABASE_URL": self.database_url,
            "NATS_URL": self.nats.url,
            "JELMORE_HOME": str(self.home),
            "LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.settings,
        }

    def mirror(self) -> Member:
        """Start one more mirror."""
        env = self.env()
        KNOWN.know_settings(env)
        name = f"mirror-{len(self.members)}"
        member = Member(name, MIRROR, env, self.home / f"{name}.log")
        member.start()
        self.members.append(member)
        return member

    def leads(self) -> Member | None:
        """Return the mirror that works."""
        for member in self.members:
            told = member.said()
            if member.alive and told.count('"this mirror works"'):
                return member
        return None

    def stop(self) -> None:
        for member in self.members:
            member.stop()
        self.database.close()

    # What is in PostgreSQL.

    def write(self, *payloads: dict[str, Any], session_id: UUID | None = None, kind: str = "session.input") -> None:
        """Write events, one transaction for all."""
        with self.database.transaction() as tx:
            at = datetime.now(UTC)
            of = session_id or uuid7()
            outbox.add(tx, *(NewEvent(EventKind(kind), "ada", at, HERE, of, each) for each in payloads))

    def waiting(self) -> int:
        with self.database.transaction() as tx:
            return len(feed.read(tx, BEGINNING, limit=100_000, unpublished=True))

    def written(self) -> dict[str, list[str]]:
        """Every event that was committed, by session, in order."""
        with self.database.transaction() as tx:
            rows = feed.read(tx, BEGINNING, limit=1_000_000)
        return by_session((str(row.session_id), str(row.id)) for row in rows)


def by_session(pairs: Any) -> dict[str, list[str]]:
    """Gather ids by session, in the order given."""
    found: dict[str, list[str]] = {}
    for session_id, event_id in pairs:
        found.setdefault(session_id, []).append(event_id)
    return found


class Writers:
    """Threads that write events of sessions of their own, some of them in transactions that stay open for a moment."""

    def __init__(self, plant: Mirrored, events: int, *, threads: int = 6, pause_seconds: float = 0.0) -> None:
        self._plant = plant
        self._pause = pause_seconds
        share = events // threads
        self._threads = [threading.Thread(target=self._write, args=(share,), daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)
        assert self.done, "the writers are not through"

    def _write(self, share: int) -> None:
        chance = random.Random(share)
        sessions = [uuid7() for _ in range(5)]
        left = share
        while left > 0:
            count = min(left, chance.choice((1, 1, 2, 5)))
            try:
                with self._plant.database.transaction() as tx:
                    at = datetime.now(UTC)
                    events = [
                        NewEvent(EventKind.SESSION_INPUT, "ada", at, HERE, chance.choice(sessions), {"left": left - n})
                        for n in range(count)
                    ]
                    outbox.add(tx, *events)
                    if chance.random() < 0.02:
                        time.sleep(chance.random() / 20)  # committed late
                left -= count
            except DatabaseUnavailable:
                time.sleep(0.1)  # whether it was committed, PostgreSQL knows: it is what is compared with
            if self._pause:
                time.sleep(self._pause * count)


class Consumer:
    """A durable pull consumer in a thread: what it got, in order, whatever happens to NATS meanwhile."""

    def __init__(self, url: str, group: str = "test", subject: str = "jelmore.>", **options: Any) -> None:
        self.got: list[tuple[int, str, str]] = []
        """(sequence in the stream, session, event id), each message of the stream once."""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._sequences: set[int] = set()
        self._url, self._group, self._subject, self._options = url, group, subject, options
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._consume()), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)

    @property
    def by_session(self) -> dict[str, list[str]]:
        return by_session((session_id, event_id) for _, session_id, event_id in sorted(self.got))

    async def _consume(self) -> None:
        while not self._stop.is_set():
            with suppress(nats.errors.Error, APIError, OSError, asyncio.TimeoutError):
                await self._connected()
            await asyncio.sleep(0.1)

    async def _connected(self) -> None:
        connection = await nats.connect(
            self._url, allow_reconnect=False, connect_timeout=2, max_reconnect_attempts=1, error_cb=_ignored
        )
        try:
            context = connection.jetstream(timeout=2)
            pull = await context.pull_subscribe(self._subject, durable=self._group, stream="JELMORE", **self._options)
            while not self._stop.is_set():
                try:
                    messages = await pull.fetch(200, timeout=1)
                except nats.errors.TimeoutError:
                    if not connection.is_connected:
                        return
                    continue
                for message in messages:
                    self._take(message)
                    await message.ack()
        finally:
            await connection.close()

    def _take(self, message: Any) -> None:
        sequence = message.metadata.sequence.stream
        if sequence in self._sequences:
            return  # delivered again: the acknowledgement was lost
        self._sequences.add(sequence)
        body = json.loads(message.data)
        self.bodies.append(body)
        self.headers.append(dict(message.headers or {}))
        self.got.append((sequence, str(body["session_id"]), body["event_id"]))


async def _ignored(_: Exception) -> None:
    """Losing the connection is what is tested."""


def with_jetstream(url: str, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """Ask JetStream something, on a connection of its own."""

    async def asked() -> Any:
        connection = await nats.connect(url, allow_reconnect=False, error_cb=_ignored)
        try:
            return await ask(connection.jetstream())
        finally:
            await connection.close()

    return asyncio.run(asked())
