"""`python -m streams.mirror`: copies the outbox to NATS JetStream, in order. A plain process, for nats-py is asyncio.

One works, every other one stands by: the lead is a lock in PostgreSQL, which is free as soon as its holder is gone. What is read
is marked when NATS has acknowledged it, so that whatever happens in between is done again, and NATS knows it by its id. Without
NATS events wait in PostgreSQL, and only there.
"""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until all is imported (core.start)

import asyncio
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import structlog

from core import metrics
from core.clock import SystemClock
from core.errors import DatabaseUnavailable
from core.start import begin
from models import feed, mirroring
from models.database import Database
from streams.jetstream import JetStream, NatsAway
from streams.outbound import Outbound

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from core.clock import Clock
    from core.settings import Settings
    from models.database import Transaction

log = structlog.get_logger(__name__)

STANDBY_SECONDS: Final = 1.0
"""How often one that stands by asks whether it is its turn."""
SAY_SECONDS: Final = 5.0
LEAVE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = (0.005, 0.1)
"""How soon it looks again when nothing has come: a little later each time, this at most."""
AGAIN_SECONDS: Final = (0.2, 5.0)
"""How soon it tries NATS again, as above."""


class Mirror:
    """One process's work: leading, or waiting for it."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._outbound = Outbound(settings, database, clock)
        self._leader: Transaction | None = None
        self._said: tuple[float, list[str | None]] = (-float("inf"), [])
        self._published = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Lead whenever nobody else does, until told to stop."""
        while not stop.is_set():
            with ExitStack() as lead:
                try:
                    if await asyncio.to_thread(self._take_lead, lead):
                        metrics.MIRROR_LEADS.set(1)
                        log.info("this mirror works")
                        await _first_of(stop.wait(), self._keep_lead(), self._work())
                except DatabaseUnavailable as fault:
                    log.warning("the mirror cannot reach PostgreSQL", error=str(fault.__cause__ or fault))
                finally:
                    metrics.MIRROR_LEADS.set(0)
                    with suppress(Exception):  # a connection that broke cannot even be left in order
                        await asyncio.to_thread(lead.close)
            await pause(STANDBY_SECONDS, stop)

    def _take_lead(self, lead: ExitStack) -> bool:
        # The lock lives as long as this transaction's connection: it is released with the process, however it ends.
        self._leader = lead.enter_context(self._database.transaction())
        if not mirroring.lead(self._leader):
            return False
        with self._database.transaction() as tx:
            if feed.mend(tx):
                log.warning("this database was restored; the order of its events goes on where it was")
            mirroring.output_begins(tx) if self._settings.nats_mirror_output else mirroring.output_ends(tx)
        return True

    async def _keep_lead(self) -> None:
        leader = self._leader
        assert leader is not None
        while True:
            await asyncio.sleep(STANDBY_SECONDS)
            await asyncio.to_thread(_on_its_connection, leader)

    async def _work(self) -> None:
        """Publish until NATS goes away; then come back to it, ever more slowly."""
        again, most = AGAIN_SECONDS
        while True:
            link = None
            try:
                link = await JetStream.open(self._settings)
                for note in link.notes:
                    log.warning(note)
                await self._say(None, link)
                again = AGAIN_SECONDS[0]
                await self._publish(link)
            except NatsAway as fault:
                log.warning("events wait", why=str(fault))
                metrics.MIRROR_TROUBLE.inc()
                await self._say(str(fault), link)
            finally:
                if link is not None:
                    await link.close()
            await asyncio.sleep(again)
            again = min(again * 2, most)

    async def _publish(self, link: JetStream) -> None:
        soon, most = IDLE_SECONDS
        idle = soon
        while True:
            moved = await self._outbound.events(link)
            if self._settings.nats_mirror_output:
                moved = await self._outbound.output(link) or moved
            if not link.is_open:
                raise NatsAway("NATS closed the connection")
            await self._say(None, link)
            idle = soon if moved else min(idle * 1.5, most)
            await asyncio.sleep(0 if moved else idle)

    async def _say(self, trouble: str | None, link: JetStream | None) -> None:
        """Write how it is where /health finds it: at once if that is new, else now and then."""
        now = self._clock.now()
        notes = link.notes if link is not None else []
        if [trouble, *notes] == self._said[1] and now - self._said[0] < SAY_SECONDS:
            return
        published = self._outbound.published
        rate = (published - self._published) / max(now - self._said[0], 1.0)
        self._said, self._published = (now, [trouble, *notes]), published

        def write() -> None:
            with self._database.transaction() as tx:
                mirroring.say(tx, trouble, notes, round(rate, 1))

        await asyncio.to_thread(write)


def _on_its_connection(leader: Transaction) -> None:
    try:
        mirroring.keep(leader)
    except Exception as fault:  # its connection is gone, and the lock with it
        raise DatabaseUnavailable from fault


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Do all of these until the first one ends; the others end with it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for fault in ended:
        if isinstance(fault, BaseException) and not isinstance(fault, asyncio.CancelledError):
            raise fault


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait so long, or until told to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def serve(settings: Settings, database: Database) -> None:
    """Mirror, or, without an address, wait, until told to stop."""
    stop = asyncio.Event()

    def leave() -> None:
        stop.set()
        # A server that is stopped in the midst of an answer would hold a thread, and the thread this process.
        watchdog = threading.Timer(LEAVE_SECONDS, os._exit, (0,))
        watchdog.daemon = True
        watchdog.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    if settings.nats_url is None:
        log.info("NATS_URL is not set: events are not mirrored; they stay in PostgreSQL for RETENTION_EVENTS_SECONDS")
        await stop.wait()
        return
    await Mirror(settings, database, SystemClock()).run(stop)


def main() -> int:
    """Run until told to stop. An error nobody foresaw ends the process, loudly: supervisors start a new one."""
    settings = begin("mirror")
    metrics.serve("mirror", settings.metrics_port)
    database = Database.open(settings, pool_size=3)
    try:
        asyncio.run(serve(settings, database))
    except Exception:
        log.critical("the mirror died", exc_info=True)
        os._exit(70)
    return 0


if __name__ == "__main__":
    sys.exit(main())
