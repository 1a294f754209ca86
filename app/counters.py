"""Counting what is limited: in Redis, together with all other web processes, or alone while Redis does not answer.

The library `limits` has the counters: fixed windows that begin with the first request. Its own client is not used, and
neither is its way of one trip to Redis for each counter and another one for what is left: all counters of a request, and of the
requests of the same moment, are one pipeline.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import structlog
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from redis.exceptions import NoScriptError, RedisError

from app.batching import Batching, Silence
from core import metrics
from streams import keys
from streams.redis import connect
from streams.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.clock import Clock
    from core.rates import Rate
    from core.settings import Settings

log = structlog.get_logger(__name__)

WAIT_SECONDS: Final = 0.5
"""How long a request waits for Redis."""
ALONE_SECONDS: Final = 5.0
"""After Redis did not answer, nobody asks it for so long; then one request tries."""
KEPT_ALONE: Final = 10_000
"""Counters one process keeps by itself. Beyond, it forgets all: a flood of addresses must not fill its memory."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing done by somebody, to be counted under a rule."""

    whose: str
    rule: str
    rate: Rate

    @property
    def key(self) -> str:
        """Return the counter's name. A changed rate begins anew."""
        return _item(str(self.rate)).key_for(self.whose, self.rule)


@dataclass(frozen=True, slots=True)
class Count:
    """How often it was done in its window, this time included, and how many seconds the window lasts."""

    count: int
    seconds_left: float


@lru_cache(maxsize=1024)
def _item(rate: str) -> RateLimitItem:
    return parse(rate)


class Counters:
    """The counters as one process sees them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._client = connect(settings, "limits")
        self._wire = Wire(self._client)
        self._storage = RedisStorage(
            settings.redis_url, connection_pool=self._client.connection_pool, key_prefix=keys.LIMITS
        )
        self._batches: Batching[Sequence[Hit], list[Count]] = Batching(self._count_shared, patience=4)
        self._failing = False
        self._trying = False
        self._alone_until = float("-inf")

    @property
    def alone(self) -> bool:
        """Whether this process counts for itself now."""
        return self._clock.now() < self._alone_until

    def hit(self, hits: Sequence[Hit]) -> list[Count]:
        """Count each of these once and return how often each was done."""
        if self.alone or (self._failing and self._trying):
            return self._count_alone(hits)
        self._trying = True
        try:
            counts = self._batches.ask(hits, WAIT_SECONDS)
        except (RedisError, Silence) as fault:
            self._fail(fault)
            return self._count_alone(hits)
        finally:
            self._trying = False
        self._failing = False
        return counts

    def _fail(self, fault: Exception) -> None:
        if not self.alone:
            log.warning("rate limits without Redis: each process counts for itself", error=str(fault) or "silent")
        metrics.REDIS_ERRORS.labels("limits").inc()
        self._failing = True
        self._alone_until = self._clock.now() + ALONE_SECONDS

    # Together.

    def _count_shared(self, batch: list[Sequence[Hit]]) -> list[list[Count]]:
        """Count everything in one trip to Redis."""
        replies = self._ask(batch)
        if any(isinstance(reply, NoScriptError) for reply in replies):  # Redis was restarted or emptied
            self._client.script_load(self._storage.SCRIPT_INCR_EXPIRE)
            replies = self._ask(batch)
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        turn = iter(replies)
        return [[Count(next(turn), max(0, next(turn)) / 1000) for _ in hits] for hits in batch]

    def _ask(self, batch: list[Sequence[Hit]]) -> list[Any]:
        sha = self._storage.lua_incr_expire.sha
        commands: list[tuple[str | bytes | int, ...]] = []
        for hit in (hit for hits in batch for hit in hits):
            key = self._storage.prefixed_key(hit.key)
            commands += [("EVALSHA", sha, 1, key, hit.rate.window_seconds, 1), ("PTTL", key)]
        return self._wire.ask(commands)

    # Alone.

    @cached_property
    def _own(self) -> MemoryStorage:
        return MemoryStorage()

    def _count_alone(self, hits: Sequence[Hit]) -> list[Count]:
        metrics.RATE_LIMITS_ALONE.inc()
        if len(self._own.storage) > KEPT_ALONE:
            self._own.reset()
        return [
            Count(
                self._own.incr(hit.key, hit.rate.window_seconds),
                max(0.0, self._own.get_expiry(hit.key) - time.time()),
            )
            for hit in hits
        ]
