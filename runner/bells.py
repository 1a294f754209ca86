"""The holder's doorbell channel: a message names a session whose mailbox has something new.

Faster than the bell that comes as a task, and as little to be relied on: each renewal of the lease looks anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import gevent
import structlog
from redis.exceptions import RedisError

from core import metrics
from streams import keys
from streams.redis import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from core.settings import Settings

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


def listen(settings: Settings, incarnation: UUID, look: Callable[[Sequence[UUID]], None]) -> NoReturn:
    """Subscribe, for good, and ring for every message. Redis away: try again each second."""
    while True:
        try:
            _listen_once(settings, incarnation, look)
        except (RedisError, OSError) as fault:
            metrics.REDIS_ERRORS.labels("bells").inc()
            log.debug("doorbell channel lost", error=str(fault))
            gevent.sleep(RETRY_SECONDS)


def _listen_once(settings: Settings, incarnation: UUID, look: Callable[[Sequence[UUID]], None]) -> None:
    client = connect(settings, "pubsub")
    try:
        with client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(keys.holder(incarnation))
            while True:
                message = channel.get_message(timeout=15.0)
                if message is not None:
                    _ring(message["data"], look)
    finally:
        client.close()


def _ring(payload: bytes, look: Callable[[Sequence[UUID]], None]) -> None:
    try:
        look([UUID(payload.decode())])
    except ValueError:
        log.warning("a bell that names no session")
