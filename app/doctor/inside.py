"""Facts about the servers and processes of an installation, looked at from inside. Every look is bounded in time."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import nats
import nats.errors
import redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import troubles, urls
from core.errors import DatabaseUnavailable
from core.version import build
from models import deliveries, mirroring, schema, sessions, workers
from models.database import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.clock import Clock
    from core.settings import Settings
    from models.database import Transaction

SECONDS: Final = 3.0
STATEMENT_SECONDS: Final = 5.0
AMQP_PORT: Final = 5672

Facts = dict[str, Any]


def look(settings: Settings, clock: Clock) -> Facts:
    """Look at everything that the settings name."""
    own_broker = settings.celery_broker_url != settings.redis_url
    return {
        "faults": [],
        "build": build(),
        "lease_seconds": settings.lease_seconds + settings.lease_margin_seconds,
        "mirrored": settings.nats_url is not None,
        **_database(settings, clock),
        "redis": _redis(settings.redis_url, "REDIS_URL"),
        "broker": _broker(settings.celery_broker_url) if own_broker else None,
        "nats": asyncio.run(_nats(settings)) if settings.nats_url is not None else None,
    }


# PostgreSQL, and what it knows of everybody.


def _database(settings: Settings, clock: Clock) -> Facts:
    database = Database.open(settings, pool_size=1, statement_timeout_seconds=STATEMENT_SECONDS)
    try:
        with database.transaction() as tx:
            facts = {"postgres": {"version": _version(tx), "clock_ahead_seconds": _ahead(tx, clock)}}
            found = schema.migrations(tx)
        facts["migrations"] = {"at": found.at, "newest": found.newest, "pending": [*found.pending]}
        if not found.pending:
            with database.transaction() as tx:
                facts |= _processes(tx)
    except DatabaseUnavailable as fault:
        words = str(fault.__cause__ or fault)
        return {"postgres": _failed(troubles.of_postgres(words), words)}
    except DBAPIError as fault:  # it answers, and refuses what we ask: no right to a table
        return facts | {"refused": _shown(str(fault.orig))}
    finally:
        database.close()
    return facts


def _version(tx: Transaction) -> str:
    return str(tx.scalar(text("SHOW server_version"))).partition(" ")[0]


def _ahead(tx: Transaction, clock: Clock) -> float:
    """Return by how much this machine's clock is ahead of PostgreSQL's: halfway between asking and hearing."""
    sessions.ping(tx)
    began = clock.now()
    told = schema.clock(tx)
    return clock.at().timestamp() - (clock.now() - began) / 2 - told


def _processes(tx: Transaction) -> Facts:
    said, lag, webhooks = mirroring.said(tx), mirroring.lag(tx), deliveries.look(tx)
    alive = [
        {
            "name": worker.name,
            "host": worker.host,
            "build": worker.version,
            "slots": worker.slots,
            "silent_seconds": silent,
            "draining": worker.draining_at is not None,
        }
        for worker, silent in workers.seen(tx)
    ]
    return {
        "workers": alive,
        "housekeeping_silent_seconds": workers.silent_housekeeping(tx),
        "mirror": None if said is None else {"silent_seconds": said.seconds, "trouble": said.trouble},
        "events_waiting_seconds": lag.seconds,
        "webhooks": {name: webhooks[name] for name in ("active", "waiting", "silent_seconds")},
    }


# Redis, the broker, NATS.


def _redis(url: str, setting: str) -> Facts:
    client = redis.Redis.from_url(url, protocol=2, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        began = time.monotonic()
        client.ping()
        facts: Facts = {"milliseconds": (time.monotonic() - began) * 1000}
        return facts | _told(client)
    except (RedisError, OSError) as fault:
        return _failed(troubles.of_redis(str(fault), setting), str(fault))
    finally:
        client.close()


def _told(client: redis.Redis) -> Facts:
    """Return what it says of itself; a user who may not ask that may still be good for the service."""
    try:
        said: Mapping[str, Any] = client.info()
    except RedisError:
        return {"version": None}
    name = "Valkey" if said.get("server_name") == "valkey" else "Redis"
    return {
        "version": f"{name} {said.get('valkey_version') or said.get('redis_version')}",
        "policy": said.get("maxmemory_policy"),
        "cluster": bool(said.get("cluster_enabled")),
    }


def _broker(url: str) -> Facts:
    if urlsplit(url).scheme in urls.REDIS_SCHEMES:
        return _redis(url, "CELERY_BROKER_URL")
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "localhost", parts.port or AMQP_PORT), timeout=SECONDS).close()
    except OSError as fault:
        return _failed("the broker is down: nothing listens where CELERY_BROKER_URL points", str(fault))
    return {"version": None}


async def _nats(settings: Settings) -> Facts:
    said: list[str] = []

    async def note(fault: Exception) -> None:
        said.append(str(fault) or repr(fault))

    servers = [server.strip() for server in (settings.nats_url or "").split(",")]
    options: dict[str, Any] = {"user_credentials": os.fspath(settings.nats_creds)} if settings.nats_creds else {}
    opening = nats.connect(
        servers,
        name="jelmore doctor",
        allow_reconnect=False,
        connect_timeout=int(SECONDS),
        reconnect_time_wait=0,
        max_reconnect_attempts=1,
        error_cb=note,
        **options,
    )
    try:
        connection = await asyncio.wait_for(opening, 2 * SECONDS)
    except (nats.errors.Error, OSError, TimeoutError) as fault:
        words = "; ".join([*said, str(fault) or repr(fault)])
        return _failed(troubles.of_nats(words), words)
    try:
        await connection.jetstream(timeout=SECONDS).account_info()
    except (nats.errors.Error, OSError, TimeoutError) as fault:
        words = str(fault) or repr(fault)
        return _failed(troubles.of_nats(words), words)
    else:
        version = connection.connected_server_version
        return {"version": f"{version.major}.{version.minor}.{version.patch}"}
    finally:
        await connection.close()


def _failed(trouble: str, words: str) -> Facts:
    return {"trouble": trouble, "words": _shown(words)}


def _shown(words: str) -> str:
    return urls.without_secrets(words.partition("\n")[0])
