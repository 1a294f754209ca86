"""Numbers that stand in PostgreSQL and are read when somebody scrapes: the same from every web process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gevent
import structlog
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from app.process import is_patched
from core.errors import DatabaseUnavailable
from models import backlog, deliveries, mirroring, sessions, workers

if TYPE_CHECKING:
    from models.database import Database

log = structlog.get_logger(__name__)

SCRAPE_SECONDS: Final = 2.0
WEBHOOKS: Final = {
    "active": "Webhooks that are switched on",
    "failing": "Webhooks whose last attempt failed",
    "waiting": "Deliveries that wait for their turn, or for their next attempt",
    "lag_seconds": "How long the oldest event has waited to be put into webhooks' queues",
}


def scrape(database: Database, *, mirrored: bool) -> bytes:
    """Return the gauges as exposition text; nothing if PostgreSQL does not answer in time. `mirrored`: events should be."""
    if not is_patched():
        return _scraped(database, mirrored)
    reading = gevent.spawn(_scraped, database, mirrored)
    reading.join(timeout=SCRAPE_SECONDS)
    return reading.value or b""


def _scraped(database: Database, mirrored: bool) -> bytes:
    try:
        with database.transaction() as tx:
            live, waiting, alive = sessions.count_by_status(tx), backlog.look(tx).length, workers.alive(tx)
            lag = mirroring.lag(tx) if mirrored else None
            webhooks = deliveries.look(tx)
    except DatabaseUnavailable as fault:
        log.debug("gauges without PostgreSQL", error=str(fault))
        return b""
    registry = CollectorRegistry()
    by_status = Gauge("jelmore_sessions", "Live sessions", ("program", "status"), registry=registry)
    for (program, status), count in live.items():
        by_status.labels(program, status).set(count)
    Gauge("jelmore_sessions_waiting", "Sessions that wait for a slot", registry=registry).set(waiting)
    Gauge("jelmore_workers_alive", "Workers that are alive", registry=registry).set(len(alive))
    if lag is not None:
        rows = Gauge(
            "jelmore_outbox_events", f"Events not mirrored yet, up to {mirroring.MOST_COUNTED}", registry=registry
        )
        rows.set(lag.rows)
        Gauge("jelmore_outbox_seconds", "Age of the oldest of them", registry=registry).set(lag.seconds)
    for name, text in WEBHOOKS.items():
        Gauge(f"jelmore_webhooks_{name}", text, registry=registry).set(webhooks[name])
    return generate_latest(registry)
