"""`python -m tasks.beat`: Celery's clock and, beside it, housekeeping. A plain process, not patched by gevent.

Housekeeping has a thread of its own; if it dies, the process dies, loudly: a beat without it would look alive.
"""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until all is imported (core.start)

import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from celery.__main__ import main as celery

from core import metrics
from core.clock import SystemClock
from core.start import begin
from models.database import Database
from streams.appender import Appender
from streams.redis import connect
from tasks.housekeeping import Housekeeper, Means
from tasks.queue import open_broker, sender
from tasks.takeover import Salvage

if TYPE_CHECKING:
    from core.settings import Settings

log = structlog.get_logger(__name__)


def open_housekeeper(settings: Settings) -> Housekeeper:
    """Open what housekeeping holds; nothing connects yet."""
    database, queue = Database.open(settings, pool_size=3), sender(settings)
    return Housekeeper(
        Means(
            settings=settings,
            database=database,
            salvage=Salvage(settings, database, Appender(connect(settings), settings), queue),
            queue=queue,
            broker=open_broker(settings),
            clock=SystemClock(),
        )
    )


def keep_house(housekeeper: Housekeeper, stop: threading.Event) -> None:
    """Run the rounds; an error nobody foresaw ends the process."""
    try:
        housekeeper.keep(stop)
    except BaseException:
        log.critical("housekeeping died", exc_info=True)
        os._exit(70)


def main() -> int:
    """Run until told to stop."""
    settings = begin("beat")
    metrics.serve("beat", settings.metrics_port)
    stop = threading.Event()
    keeper = threading.Thread(
        target=keep_house, args=(open_housekeeper(settings), stop), name="housekeeping", daemon=True
    )
    keeper.start()
    # The scheduler in memory: a schedule file would have to be somewhere, and nothing here is worth remembering.
    sys.argv = [
        *("celery", "--quiet", "-A", "tasks.celery", "beat"),
        *("-S", "celery.beat:Scheduler", "-l", settings.log_level),
    ]
    with suppress(SystemExit):
        celery()
    stop.set()
    keeper.join(timeout=5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
