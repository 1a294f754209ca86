"""Connections to Redis, with time-outs and retries for what they are used for. Keys are `streams.keys`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

Purpose = Literal["commands", "pubsub", "limits"]

# redis-py 8 would wait 5 s, ten times: 59 s for one command to a server that is stopped.
_OPTIONS: Final[Mapping[Purpose, dict[str, float]]] = {
    "commands": {"socket_timeout": 2.0, "socket_connect_timeout": 1.0},
    # Silence is normal here; the listener asks for a sign of life itself (streams/doorbells.py).
    "pubsub": {"socket_timeout": 5.0, "socket_connect_timeout": 1.0},
    # Every request waits for it, for less than this, and can do without.
    "limits": {"socket_timeout": 1.0, "socket_connect_timeout": 1.0},
}
_POOL_SIZE: Final = 64
_POOL_WAIT_SECONDS: Final = 2.0


class HasRedis(Protocol):
    """The part of the settings that is read here."""

    @property
    def redis_url(self) -> str:
        """Where the log tails and doorbells live."""


def connect(settings: HasRedis, purpose: Purpose = "commands") -> redis.Redis:
    """Prepare a client; nothing connects before the first command. It waits for a free connection, never adds more.

    A command is tried a second time only if the connection broke: everything sent here may be repeated without harm.
    After a time-out it is not, since whoever asked has waited long enough.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=_POOL_SIZE,
        timeout=_POOL_WAIT_SECONDS,
        protocol=2,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        **_OPTIONS[purpose],
    )
    return redis.Redis(connection_pool=pool)
