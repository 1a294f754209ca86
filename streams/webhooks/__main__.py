"""`python -m streams.webhooks`: sends events to webhooks. A process of its own, patched by gevent before anything else.

It is the only one that connects to addresses which clients name: where that matters, give it a network of its own.
"""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until all is imported (core.start)

from gevent import monkey

monkey.patch_all()

import signal
import sys

import gevent
import structlog

from core import metrics
from core.clock import SystemClock
from core.start import begin
from core.vital import spawn_vital
from models.database import Database
from streams.webhooks.deliverer import Deliverer

log = structlog.get_logger(__name__)

RESOLVERS = 4
"""Names are resolved in threads, which a slow server of names holds longer than the attempt lasts: so many for each place."""


def main() -> int:
    """Run until told to stop."""
    settings = begin("webhooks")
    metrics.serve("webhooks", settings.metrics_port)
    gevent.get_hub().threadpool.maxsize = RESOLVERS * settings.webhook_concurrency
    database = Database.open(settings, gevent=True)
    deliverer = Deliverer(settings, database, SystemClock())
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, deliverer.stop)
    log.info("webhooks are delivered", places=settings.webhook_concurrency)
    spawn_vital("deliverer", deliverer.keep).join()
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
