"""`python -m streams.mirror`: the process that will copy the outbox to NATS. In this version it copies nothing, and says so.

Events are written to the outbox all the same; they wait there for a version that mirrors.
"""

from __future__ import annotations

import signal
import sys
import threading

import structlog

from core.start import begin

log = structlog.get_logger(__name__)


def main() -> int:
    """Say what is (not) done, and wait to be stopped."""
    settings = begin("mirror")
    log.info("events are not mirrored to NATS in this version; they stay in the outbox", nats=bool(settings.nats_url))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(3600):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
