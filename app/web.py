"""What one web process holds: opened once by the process, handed down, never imported."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from flask import current_app

from app.audit_trail import AuditTrail
from app.census import Census
from app.checks import Checks, Parts
from app.counters import Counters
from app.doorbell import Doorbell
from app.key_watch import KeyWatch
from app.keyring import Keyring
from app.open_streams import OpenStreams
from app.process import is_patched
from app.searches import Searches
from app.sight import Sight
from app.stored_keys import StoredKeys
from app.together import Together
from core.clock import SystemClock
from core.vital import watch_hub
from models.database import Database
from streams.appender import Appender
from streams.doorbells import Doorbells
from streams.event_feed import Feed
from streams.log import Log
from streams.redis import connect
from streams.relay import Hub
from streams.webhooks.addresses import Rules
from tasks.queue import open_broker, sender

if TYPE_CHECKING:
    from redis import Redis

    from core.clock import Clock
    from core.settings import Settings

EXTENSION: Final = "jelmore"
DESCRIPTORS: Final = 100
"""Open in a process beside its clients: connections to servers, files."""


@dataclass(frozen=True, slots=True)
class Web:
    """The resources of one web process."""

    settings: Settings
    database: Database
    sight: Sight
    together: Together
    redis: Redis
    log: Log
    hub: Hub
    events: Feed
    doorbell: Doorbell
    keyring: Keyring
    key_watch: KeyWatch
    trail: AuditTrail
    streams: OpenStreams
    searches: Searches
    counters: Counters
    checks: Checks
    rules: Rules
    """Where webhooks may point to."""
    census: Census
    clock: Clock

    def close(self) -> None:
        """Let go of every connection."""
        self.redis.close()
        self.sight.close()
        self.together.close()
        self.database.close()


def open_web(settings: Settings) -> Web:
    """Open what a web process needs; nothing connects before the first request, but the relay, which listens at once."""
    database = Database.open(settings, gevent=is_patched())
    client = connect(settings)
    log = Log(client, database)
    hub = Hub(log, Doorbells(connect(settings, "pubsub")), settings)
    events = Feed(database)
    streams = OpenStreams(streams_cap(settings), settings.max_streams_per_key, held=held_cap(settings))
    clock, trail = SystemClock(), AuditTrail(database)
    stored = StoredKeys(database, clock)
    key_watch = KeyWatch(database, stored, clock)
    census = Census(client, streams, clock)
    if is_patched():  # a plain process, a test's, has no loop: it follows nothing that is still live
        hub.open()
        events.open()
        key_watch.open()
        trail.open()
        census.open()
        watch_hub()
    counters = Counters(settings, clock)
    broker = _broker(settings, client)
    return Web(
        settings=settings,
        database=database,
        sight=Sight(database, settings),
        together=Together(database, settings),
        redis=client,
        log=log,
        hub=hub,
        events=events,
        doorbell=Doorbell(sender(settings), broker, client, Appender(client, settings)),
        keyring=Keyring(settings.api_keys, stored),
        key_watch=key_watch,
        trail=trail,
        streams=streams,
        searches=Searches(clock),
        counters=counters,
        checks=Checks(Parts(settings, database, client, broker, streams, counters, clock)),
        rules=Rules(settings.webhook_allow_private, plain_http=not settings.in_production),
        census=census,
        clock=clock,
    )


def _broker(settings: Settings, client: Redis) -> Redis | None:
    """Return a client for the broker, if it is a Redis."""
    return client if settings.celery_broker_url == settings.redis_url else open_broker(settings)


def streams_cap(settings: Settings) -> int:
    """Return how many streams this process takes: each has a descriptor, and requests need some as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if is_patched() and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    spare = settings.worker_connections + DESCRIPTORS
    return max(1, min(settings.max_streams, hard - spare)) if hard != resource.RLIM_INFINITY else settings.max_streams


def held_cap(settings: Settings) -> int:
    """Return how many requests may wait for something in a log, each with one of gunicorn's `worker_connections`.

    The last fifth is kept for the others, health above all.
    """
    return max(1, settings.worker_connections * 4 // 5)


def current_web() -> Web:
    """Return the resources of the process that answers this request."""
    return cast("Web", current_app.extensions[EXTENSION])
