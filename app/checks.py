"""Looking at what a web process depends on: all at once, each for at most two seconds, none twice at the same time."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import gevent
import structlog
from redis.exceptions import RedisError

from app.process import is_patched
from core import troubles
from core.errors import DatabaseUnavailable
from core.version import build
from models import deliveries, mirroring, schema, sessions, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gevent import Greenlet
    from redis import Redis

    from app.counters import Counters
    from app.open_streams import OpenStreams
    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 2.0
MIRROR_SILENT_SECONDS: Final = 20.0
"""A mirror says every five seconds how it is; another one needs up to ten to take over."""
BEHIND_SECONDS: Final = 60.0
MOST_COUNTED: Final = 10_000
"""More events that wait are as many."""
DELIVERER_SILENT_SECONDS: Final = 30.0
CLOCK_SECONDS: Final = 5.0
"""By more than this a clock is wrong: machines that are told the time differ by milliseconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is. `status`: healthy, unhealthy, not_configured."""

    status: str
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether nothing is missing."""
        return self.status != "unhealthy"

    def as_json(self) -> dict[str, Any]:
        """Return it as /health shows it."""
        return {"status": self.status, "stats": self.stats} if self.stats else {"status": self.status}


HEALTHY: Final = Finding("healthy")
UNHEALTHY: Final = Finding("unhealthy")


@dataclass(frozen=True, slots=True)
class Parts:
    """What is looked at."""

    settings: Settings
    database: Database
    redis: Redis
    broker: Redis | None
    streams: OpenStreams
    counters: Counters
    clock: Clock


class Checks:
    """The looks of one process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._build = build()  # now: files change under a process that runs
        schema.known()
        self._running: dict[str, Greenlet[Finding]] = {}
        self._looks: dict[str, Callable[[], Finding]] = {
            "database": self._database,
            "migrations": self._migrations,
            "clock": self._clock,
            "redis": self._redis,
            "nats": self._nats,
            "broker": self._broker,
            "workers": self._workers,
            "webhooks": self._webhooks,
            "session_service": self._session_service,
            "websocket_manager": self._websocket_manager,
        }

    def look(self, names: Iterable[str] = ()) -> dict[str, Finding]:
        """Look at these parts, or at all of them."""
        chosen = list(names) or list(self._looks)
        if not is_patched():
            return {name: self._guarded(name) for name in chosen}
        looking = {name: self._begin(name) for name in chosen}
        gevent.joinall(list(looking.values()), timeout=LOOK_SECONDS)
        return {name: (greenlet.value or UNHEALTHY) for name, greenlet in looking.items()}

    def _begin(self, name: str) -> Greenlet[Finding]:
        """Look, or wait with those who look already: a server that is stopped must not gather a look for each probe."""
        running = self._running.get(name)
        if running is None or running.ready():
            running = self._running[name] = gevent.spawn(self._guarded, name)
        return running

    def _guarded(self, name: str) -> Finding:
        try:
            return self._looks[name]()
        except (DatabaseUnavailable, RedisError) as fault:
            return self._unreachable(name, fault)
        except Exception as fault:  # noqa: BLE001  (whatever a part throws, it is not well)
            log.debug("a part is not well", part=name, error=str(fault))
            return UNHEALTHY

    def _unreachable(self, name: str, fault: Exception) -> Finding:
        """Say why, where it is the server itself that was looked at."""
        words = str(fault.__cause__ or fault)
        log.debug("a part is not well", part=name, error=words)
        settings = self._parts.settings
        if name == "database":
            return _trouble(troubles.of_postgres(words))
        if name == "redis":
            return _trouble(troubles.of_redis(words))
        if name == "broker":
            own = settings.celery_broker_url != settings.redis_url
            return _trouble(troubles.of_redis(words, "CELERY_BROKER_URL" if own else "REDIS_URL"))
        return UNHEALTHY

    def _database(self) -> Finding:
        with self._parts.database.transaction() as tx:
            sessions.ping(tx)
        return HEALTHY

    def _migrations(self) -> Finding:
        with self._parts.database.transaction() as tx:
            found = schema.migrations(tx)
        stats = {"at": found.at, "newest": found.newest, "pending": [*found.pending]}
        return Finding("unhealthy" if found.pending else "healthy", stats)

    def _clock(self) -> Finding:
        """Compare with PostgreSQL's clock, which is everybody's: halfway between asking and hearing."""
        clock = self._parts.clock
        with self._parts.database.transaction() as tx:
            sessions.ping(tx)  # a connection may have to be made first
            began = clock.now()
            told = schema.clock(tx)
            ahead = clock.at().timestamp() - (clock.now() - began) / 2 - told
        stats = {"seconds_ahead_of_database": round(ahead, 3)}
        return Finding("unhealthy" if abs(ahead) > CLOCK_SECONDS else "healthy", stats)

    def _redis(self) -> Finding:
        self._parts.redis.ping()
        if self._parts.counters.alone:  # it answers, but too slowly for every request to wait
            return Finding("unhealthy", {"rate_limits": "per process"})
        return HEALTHY

    def _broker(self) -> Finding:
        if self._parts.broker is None:
            return _reachable(self._parts.settings.celery_broker_url, 5672)
        self._parts.broker.ping()
        return HEALTHY

    def _nats(self) -> Finding:
        """Look at what the mirror says, and at what waits: this process has nothing to do with NATS itself."""
        if self._parts.settings.nats_url is None:
            return Finding("not_configured")
        with self._parts.database.transaction() as tx:
            said, lag = mirroring.said(tx), mirroring.lag(tx, most=MOST_COUNTED)
        stats: dict[str, Any] = {"events_waiting": lag.rows, "seconds_behind": round(lag.seconds, 3)}
        if said is not None:
            stats["published_per_second"] = said.published_per_second
            if said.notes:
                stats["notes"] = [*said.notes]
        if said is None or said.seconds > MIRROR_SILENT_SECONDS:
            trouble: str | None = "no mirror is running (python -m streams.mirror): events wait in PostgreSQL"
        else:
            trouble = said.trouble
        if trouble is None and lag.seconds > BEHIND_SECONDS:
            trouble = "the mirror is behind"
        if trouble is None:
            return Finding("healthy", stats)
        return Finding("unhealthy", {"trouble": trouble, **stats})

    def _workers(self) -> Finding:
        settings = self._parts.settings
        most = 2 * (settings.lease_seconds + settings.lease_margin_seconds)
        with self._parts.database.transaction() as tx:
            # Without housekeeping nobody is declared lost: the time is looked at, too.
            alive = [worker for worker, silent in workers.seen(tx) if silent < most]
        stats = {
            "alive": len(alive),
            "slots": sum(worker.slots for worker in alive),
            "other_code": sum(worker.version != self._build for worker in alive),
        }
        return Finding("healthy" if alive else "unhealthy", stats)

    def _webhooks(self) -> Finding:
        """Whether somebody delivers, if there is anybody to deliver to. A receiver that fails is its owner's affair."""
        with self._parts.database.transaction() as tx:
            seen = deliveries.look(tx)
        stats: dict[str, Any] = {name: int(seen[name]) for name in ("active", "failing", "waiting")}
        if not (seen["active"] or seen["waiting"]):
            return Finding("healthy", stats)
        silent = seen["silent_seconds"]
        if silent < 0:
            return Finding("unhealthy", {**stats, "trouble": "no process delivers to webhooks: start streams.webhooks"})
        if silent > DELIVERER_SILENT_SECONDS:
            return Finding("unhealthy", {**stats, "trouble": f"webhooks have not been delivered to for {silent:.0f} s"})
        return Finding("healthy", stats)

    def _session_service(self) -> Finding:
        with self._parts.database.transaction() as tx:
            live = sum(sessions.count_by_status(tx).values())
        return Finding("healthy", {"active_sessions_count": live, "service_running": True})

    def _websocket_manager(self) -> Finding:
        streams = self._parts.streams
        return Finding("healthy", {"total_connections": streams.total, "sessions_with_connections": streams.sessions})


def _trouble(words: str) -> Finding:
    return Finding("unhealthy", {"trouble": words})


def _reachable(url: str, default_port: int) -> Finding:
    """Whether somebody accepts connections there."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    with socket.create_connection((parts.hostname or "localhost", parts.port or default_port), timeout=LOOK_SECONDS):
        return HEALTHY
