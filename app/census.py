"""What all web processes have open: each says it in Redis every few seconds, and is forgotten soon after it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import gevent
import msgpack
import structlog
from redis.exceptions import RedisError

from core.ids import uuid7
from core.vital import spawn_vital
from streams import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis

    from app.open_streams import OpenStreams
    from core.clock import Clock

log = structlog.get_logger(__name__)

WRITE_SECONDS: Final = 3.0
KEPT_SECONDS: Final = 10

Report = dict[str, dict[bytes, int]]
"""By owner: how many streams each session has. Sessions are their ids' bytes."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Open streams of one owner, or of all. `complete`: the other processes were asked as well."""

    streams: int
    sessions: int
    processes: int
    complete: bool


class Census:
    """One process's part in it."""

    def __init__(self, redis: Redis, streams: OpenStreams, clock: Clock) -> None:
        self._redis = redis
        self._streams = streams
        self._clock = clock
        self._name = uuid7()
        self._began = clock.now()

    @property
    def uptime_seconds(self) -> float:
        """Return since when this process is there."""
        return self._clock.now() - self._began

    def open(self) -> None:
        """Begin to tell the others."""
        spawn_vital("census", self._keep_writing)

    def write(self) -> None:
        """Say what is open here. Raises RedisError."""
        name = str(self._name)
        with self._redis.pipeline() as pipe:
            pipe.set(keys.web(self._name), msgpack.packb(self._own()), ex=KEPT_SECONDS)
            pipe.sadd(keys.WEBS, name)
            pipe.expire(keys.WEBS, 3600)  # each of them renews it
            pipe.execute()

    def read(self, owner: str | None) -> Connections:
        """Count the streams of one owner's sessions, or of all; without Redis those of this process."""
        try:
            others, complete = self._others(), True
        except RedisError as fault:
            log.debug("the other web processes cannot be asked", error=str(fault))
            others, complete = [], False
        reports = [self._own(), *others]
        counted = [sessions for report in reports for sessions in _of(report, owner)]
        return Connections(
            streams=sum(sum(sessions.values()) for sessions in counted),
            sessions=len(set().union(*counted)),
            processes=len(reports),
            complete=complete,
        )

    def _own(self) -> Report:
        by_owner = self._streams.by_owner()
        return {owner: {followed.bytes: n for followed, n in counts.items()} for owner, counts in by_owner.items()}

    def _others(self) -> list[Report]:
        members = self._redis.smembers(keys.WEBS)
        names = [member.decode() if isinstance(member, bytes) else member for member in members]
        names = [name for name in names if name != str(self._name)]
        if not names:
            return []
        packed = self._redis.mget([keys.web(name) for name in names])
        gone = [name for name, report in zip(names, packed, strict=True) if report is None]
        if gone:
            self._redis.srem(keys.WEBS, *gone)
        return [msgpack.unpackb(report) for report in packed if report is not None]

    def _keep_writing(self) -> None:
        while True:
            try:
                self.write()
            except RedisError as fault:
                log.debug("the other web processes are not told", error=str(fault))
            gevent.sleep(WRITE_SECONDS)


def _of(report: Report, owner: str | None) -> Iterable[dict[bytes, int]]:
    if owner is None:
        return report.values()
    return [report.get(owner, {})]
