"""Events through the mirror, beside nats-py alone with the same messages: how many a second, and how late at a steady rate."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import nats
import orjson
from nats.js.api import StreamConfig
from sqlalchemy import text

from benchmarks.processes import NotReady
from core.ids import uuid7
from core.settings import load_settings
from jelmore.embedded import Nats
from migrations.__main__ import upgrade
from models import outbox
from models.database import Database
from models.events import EventKind, NewEvent, Origin
from streams.envelopes import STREAM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path
    from uuid import UUID

    from benchmarks.processes import Running

RATE: Final = 200
READY_SECONDS: Final = 20.0
MOST_SECONDS: Final = 120.0
SUBJECT: Final = "jelmore.session.input"
BARE: Final = "bare.session.input"

_FILL: Final = text("""
    INSERT INTO events (id, event_type, owner, session_id, payload, actor, request_id, at)
    SELECT gen_random_uuid(), 'session.input', 'bench', CAST(:session_id AS uuid),
        jsonb_build_object('input_id', gen_random_uuid(), 'input_seq', n, 'kind', 'input', 'bytes', 20),
        'bench', 'r-' || n, clock_timestamp()
    FROM generate_series(1, :count) AS n
""")


@dataclass(frozen=True)
class Plant:
    """NATS, an outbox, and a mirror between them."""

    database: Database
    url: str

    def ask(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        """Ask with a connection of its own."""

        async def asked() -> Any:
            connection = await nats.connect(self.url)
            try:
                return await ask(connection)
            finally:
                await connection.close()

        return asyncio.run(asked())


@contextmanager
def plant(running: Running, addresses: dict[str, str], home: Path) -> Iterator[Plant]:
    """Start NATS and the mirror."""
    server = Nats(home / "events")
    server.start()
    settings = load_settings(addresses)
    upgrade(settings.database_url)
    database = Database.open(settings, pool_size=2)
    made = Plant(database, server.url)
    env = {**addresses, "NATS_URL": server.url, "PATH": os.defpath, "LOG_FORMAT": "json"}
    running.start("mirror", [sys.executable, "-m", "streams.mirror"], env)
    try:
        made.ask(_ready)
        yield made
    finally:
        database.close()
        server.stop()


async def _ready(connection: Any) -> None:
    """Wait for the mirror's stream; make one for what is published without it."""
    context = connection.jetstream()
    give_up = time.monotonic() + READY_SECONDS
    while STREAM not in [each.config.name for each in await context.streams_info()]:
        if time.monotonic() > give_up:
            raise NotReady("the mirror has made no stream")
        await asyncio.sleep(0.05)
    await context.add_stream(StreamConfig(name="BARE", subjects=["bare.>"]))


def mirrored(plant: Plant, count: int) -> float:
    """Return events a second, from the commit of so many to the last one's acknowledgement."""

    async def measured(connection: Any) -> float:
        context = connection.jetstream()
        before = (await context.stream_info(STREAM)).state.messages
        with plant.database.transaction() as tx:
            tx.execute(_FILL, {"count": count, "session_id": uuid7()})
        return await _reached(context, STREAM, before + count, count)

    return float(plant.ask(measured))


async def _reached(context: Any, stream: str, wanted: int, count: int) -> float:
    began = time.monotonic()
    while (await context.stream_info(stream)).state.messages < wanted:
        if time.monotonic() - began > MOST_SECONDS:
            raise NotReady("the mirror did not come through")
        await asyncio.sleep(0.01)
    return count / (time.monotonic() - began)


def published(plant: Plant, count: int) -> float:
    """Return the same of nats-py alone: publish, wait for the acknowledgement, publish the next."""

    async def measured(connection: Any) -> float:
        context = connection.jetstream()
        session_id = uuid7()
        bodies = [_body(session_id, n) for n in range(count)]
        began = time.monotonic()
        for event_id, body in bodies:
            await context.publish(BARE, body, headers=_headers(event_id, session_id))
        return count / (time.monotonic() - began)

    return float(plant.ask(measured))


def late_mirrored(plant: Plant, seconds: float) -> dict[str, float]:
    """Return how late events are with a consumer, in milliseconds, when they are written at a steady rate."""

    def write(stamp: int) -> None:
        at = datetime.now(UTC)
        with plant.database.transaction() as tx:
            kind = EventKind.SESSION_INPUT
            outbox.add(tx, NewEvent(kind, "bench", at, Origin("bench"), uuid7(), {"stamp": stamp}))

    async def steadily(_: Any, count: int) -> None:
        await asyncio.to_thread(_at_a_rate, count, write)

    return _late(plant, SUBJECT, steadily, seconds)


def late_published(plant: Plant, seconds: float) -> dict[str, float]:
    """Return the same of nats-py alone."""

    async def steadily(connection: Any, count: int) -> None:
        context = connection.jetstream()
        began = time.monotonic()
        for n in range(count):
            await asyncio.sleep(max(0.0, began + n / RATE - time.monotonic()))
            session_id = uuid7()
            event_id, body = _body(session_id, time.monotonic_ns())
            await context.publish(BARE, body, headers=_headers(event_id, session_id))

    return _late(plant, BARE, steadily, seconds)


def _at_a_rate(count: int, write: Callable[[int], None]) -> None:
    began, pause = time.monotonic(), threading.Event()
    for n in range(count):
        pause.wait(max(0.0, began + n / RATE - time.monotonic()))
        write(time.monotonic_ns())


def _late(
    plant: Plant, subject: str, steadily: Callable[[Any, int], Awaitable[None]], seconds: float
) -> dict[str, float]:
    count = int(RATE * seconds)
    late: list[float] = []

    async def measured(connection: Any) -> None:
        done = asyncio.Event()

        async def took(message: Any) -> None:
            payload = orjson.loads(message.data)["payload"]
            if "stamp" in payload:
                late.append((time.monotonic_ns() - payload["stamp"]) / 1e6)
            if len(late) == count:
                done.set()

        await connection.subscribe(subject, cb=took)
        await connection.flush()
        await steadily(connection, count)
        await asyncio.wait_for(done.wait(), MOST_SECONDS)

    plant.ask(measured)
    late.sort()
    return {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)]}


def _body(session_id: UUID, stamp: int) -> tuple[str, bytes]:
    event_id = str(uuid7())
    return event_id, orjson.dumps(
        {
            "event_type": "session.input",
            "session_id": str(session_id),
            "event_id": event_id,
            "position": "000000000000-000000000000",
            "payload": {"input_id": event_id, "input_seq": 1, "kind": "input", "bytes": 20, "stamp": stamp},
            "timestamp": "2030-01-01T00:00:00.000Z",
            "request_id": "r-1",
            "actor": "bench",
        }
    )


def _headers(event_id: str, session_id: UUID) -> dict[str, str]:
    return {
        "Nats-Msg-Id": event_id,
        "Event-Type": "session.input",
        "Session-Id": str(session_id),
        "Request-Id": "r-1",
    }
