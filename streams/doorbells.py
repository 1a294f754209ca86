"""One pub/sub connection for all followed sessions of a web process. It loses messages, and says when it may have."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import gevent
import msgpack
import structlog
from gevent.lock import RLock
from redis.exceptions import RedisError

from core import metrics
from core.vital import spawn_vital
from streams import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import redis

log = structlog.get_logger(__name__)

SIGN_OF_LIFE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.5


class Doorbells:
    """Subscriptions to sessions' bells, renewed when the connection is."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._wanted: set[UUID] = set()
        self._names: dict[bytes, UUID] = {}
        self._connection: Any = None
        self._sending = RLock()

    def open(self, on_bell: Callable[[UUID, int, bytes | None], None], on_doubt: Callable[[], None]) -> None:
        """Listen from here on; `on_doubt` is called after each time messages may have been lost."""
        spawn_vital("doorbells", self._keep_listening, on_bell, on_doubt)

    def subscribe(self, session_id: UUID) -> None:
        """Listen for a session. If Redis is away it is done when it is back."""
        self._wanted.add(session_id)
        self._names[keys.bell(session_id).encode()] = session_id
        self._tell("subscribe", keys.bell(session_id))

    def unsubscribe(self, session_id: UUID) -> None:
        """Listen no more for a session."""
        self._wanted.discard(session_id)
        self._names.pop(keys.bell(session_id).encode(), None)
        self._tell("unsubscribe", keys.bell(session_id))

    def _tell(self, verb: str, channel: str) -> None:
        if self._connection is None:
            return
        with self._sending, suppress(RedisError, OSError):  # the listener notices and subscribes to everything anew
            getattr(self._connection, verb)(channel)

    def _keep_listening(self, on_bell: Callable[[UUID, int, bytes | None], None], on_doubt: Callable[[], None]) -> None:
        while True:
            try:
                self._listen(on_bell, on_doubt)
            except (RedisError, OSError) as fault:
                metrics.REDIS_ERRORS.labels("doorbells").inc()
                log.debug("doorbells lost", error=str(fault))
            finally:
                connection, self._connection = self._connection, None
                if connection is not None:
                    with suppress(RedisError, OSError):
                        connection.close()
            gevent.sleep(RETRY_SECONDS)

    def _listen(self, on_bell: Callable[[UUID, int, bytes | None], None], on_doubt: Callable[[], None]) -> None:
        connection = self._client.pubsub()  # type: ignore[no-untyped-call]
        # The first channel is nobody's: it keeps the connection subscribed while no session is followed.
        connection.subscribe(keys.RELAY, *map(keys.bell, self._wanted))
        self._connection = connection
        confirmed: set[bytes] = set()
        while True:
            message = connection.get_message(timeout=SIGN_OF_LIFE_SECONDS)
            if message is None:
                connection.ping()
            elif message["type"] == "message":
                self._hear(message, on_bell)
            elif message["type"] == "subscribe":
                # A channel confirmed twice: the client reconnected by itself, and messages are lost.
                if message["channel"] in confirmed or message["channel"] == keys.RELAY.encode():
                    on_doubt()
                confirmed.add(message["channel"])
            elif message["type"] == "unsubscribe":
                confirmed.discard(message["channel"])

    def _hear(self, message: dict[str, Any], on_bell: Callable[[UUID, int, bytes | None], None]) -> None:
        session_id = self._names.get(message["channel"])
        if session_id is None:
            return
        seq, *rest = msgpack.unpackb(message["data"], raw=True)  # Lua knows no difference between text and bytes
        on_bell(session_id, seq, rest[0] if rest else None)
