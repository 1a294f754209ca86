"""Commands for Redis from several requests in one trip: what comes while one is on its way goes with the next one.

Nobody fails because of it. What does not arrive is counted; what takes too long is left behind, and arrives later or not.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

from app.batching import Batching, Silence
from streams.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis import Redis

    from tasks.messages import Command

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 1000
"""Sendings that wait for a Redis that has stopped. Beyond this many, a new one is not taken."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Commands that belong together, and whom to tell if they did not arrive."""

    commands: Sequence[Command]
    failed: Callable[[str], None]


class Pipe:
    """One process's way to one Redis."""

    def __init__(self, client: Redis) -> None:
        self._wire = Wire(client)
        self._batches: Batching[Parcel, None] = Batching(self._send)

    def send(self, parcel: Parcel, *, wait_seconds: float) -> None:
        """Send, and wait for it so long and no longer."""
        if self._batches.waiting >= MOST_WAITING:
            parcel.failed("too much waits to be sent")
        elif wait_seconds:
            with suppress(Silence):
                self._batches.ask(parcel, wait_seconds)
        else:
            self._batches.tell(parcel)

    def _send(self, parcels: list[Parcel]) -> list[None]:
        commands = [command for parcel in parcels for command in parcel.commands]
        replies: Iterator[Any]
        try:
            replies = iter(self._wire.ask(commands))
        except Exception as fault:
            if not isinstance(fault, RedisError):
                log.exception("a send met an error nobody foresaw")
            replies = repeat(fault)
        for parcel in parcels:
            faults = [reply for reply in (next(replies) for _ in parcel.commands) if isinstance(reply, Exception)]
            if faults:
                parcel.failed(str(faults[0]))
        return [None] * len(parcels)
