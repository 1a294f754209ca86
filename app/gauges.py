"""Numbers that stand in PostgreSQL and are read when somebody scrapes: the same from every web process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import gevent
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.process import is_patched
from core import metrics
from core.errors import DatabaseUnavailable
from models import backlog, deliveries, mirroring, sessions, workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.database import Database, Transaction

    Value = float | Mapping[tuple[str, str], int]

log = structlog.get_logger(__name__)

SCRAPE_SECONDS: Final = 2.0


def scrape(database: Database, *, mirrored: bool, at: datetime) -> bytes:
    """Return the gauges as exposition text; nothing if PostgreSQL does not answer in time. `mirrored`: events should be."""
    if not is_patched():
        return _scraped(database, mirrored, at)
    reading = gevent.spawn(_scraped, database, mirrored, at)
    reading.join(timeout=SCRAPE_SECONDS)
    return reading.value or b""


def _scraped(database: Database, mirrored: bool, at: datetime) -> bytes:
    try:
        with database.transaction() as tx:
            values = _look(tx, mirrored, at)
    except DatabaseUnavailable as fault:
        log.debug("gauges without PostgreSQL", error=str(fault))
        return b""
    registry = CollectorRegistry()
    registry.register(_Read(values))
    return generate_latest(registry)


class _Read(Collector):
    """What was read, once. A `Gauge` would be kept by this process, in the directory that all of them share."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is known, as families."""
        for name, (text, labels) in metrics.NOW.items():
            if name in self._values:
                yield _family(GaugeMetricFamily(name, text, labels=labels), self._values[name])


def _family(family: GaugeMetricFamily, value: Value) -> GaugeMetricFamily:
    for labels, number in value.items() if isinstance(value, Mapping) else [((), value)]:
        family.add_metric(labels, number)
    return family


def _look(tx: Transaction, mirrored: bool, at: datetime) -> dict[str, Value]:
    waiting, alive = backlog.look(tx), workers.alive(tx)
    silent = workers.silent_housekeeping(tx)
    values: dict[str, Value] = {
        "jelmore_sessions": sessions.count_by_status(tx),
        "jelmore_sessions_waiting": waiting.length,
        "jelmore_sessions_waiting_seconds": waiting.seconds(at) or 0.0,
        "jelmore_workers_alive": len(alive),
        "jelmore_workers_slots": sum(worker.slots for worker in alive),
    }
    if silent is not None:
        values["jelmore_housekeeping_silent_seconds"] = silent
    if mirrored:
        lag = mirroring.lag(tx)
        values |= {"jelmore_outbox_events": lag.rows, "jelmore_outbox_seconds": lag.seconds}
    webhooks = {f"jelmore_webhooks_{name}": value for name, value in deliveries.look(tx).items()}
    return values | {name: value for name, value in webhooks.items() if value >= 0}  # below: nobody was ever there
