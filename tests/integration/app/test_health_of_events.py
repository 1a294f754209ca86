"""Without NATS, or without a mirror, everything works, and health says in words what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from sqlalchemy import func, select

from app import create_app
from app.web import open_web
from core.clock import SystemClock
from core.settings import load_settings
from models import mirroring, outbox
from models.events import EventKind, NewEvent, Origin
from models.tables import Event
from tasks.expiry import EventExpiry
from tests.integration.app.serving import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.web import Web


@pytest.fixture
def mirrored(variables: dict[str, str], new_database: Callable[[], str]) -> Iterator[Web]:
    """Where events should be mirrored, and nobody does."""
    given = {
        **variables,
        "DATABASE_URL": new_database(),
        "NATS_URL": "nats://127.0.0.1:1",
        "RETENTION_EVENTS_SECONDS": "60",
    }
    web = open_web(load_settings(given))
    yield web
    web.close()


@pytest.fixture
def wanting(mirrored: Web) -> Iterator[Api]:
    with httpx2.Client(transport=httpx2.WSGITransport(app=create_app(world=mirrored)), base_url="http://web") as client:
        yield Api(client)


def nats(api: Api) -> tuple[str, dict[str, Any]]:
    health = api.client.get("/health")
    assert health.status_code == 200
    found = health.json()["infrastructure"]["nats"]
    return found["status"], found["stats"]


def test_what_is_wrong_with_the_mirror_is_said_and_nothing_else_suffers(wanting: Api, mirrored: Web) -> None:
    wanting.create()
    status, stats = nats(wanting)
    assert status == "unhealthy"
    assert "no mirror is running" in stats["trouble"]
    assert stats["events_waiting"] == 1

    with mirrored.database.transaction() as tx:
        mirroring.say(tx, "NATS does not let us in: Authorization Violation", ["stream JELMORE has max_age 60"], 12.5)
    status, stats = nats(wanting)
    assert (status, stats["trouble"]) == ("unhealthy", "NATS does not let us in: Authorization Violation")
    assert (stats["notes"], stats["published_per_second"]) == (["stream JELMORE has max_age 60"], 12.5)
    assert wanting.client.get("/health").json()["status"] == "degraded"

    with mirrored.database.transaction() as tx:
        mirroring.say(tx, None, [], 0)
    assert nats(wanting)[0] == "healthy"
    metrics = wanting.client.get("/metrics").text
    assert "jelmore_outbox_events 1.0" in metrics
    assert "jelmore_outbox_seconds " in metrics


def test_events_go_after_their_retention_published_or_not(mirrored: Web) -> None:
    with mirrored.database.transaction() as tx:
        at = datetime.now(UTC)
        outbox.add(tx, *(NewEvent(EventKind.KEY_ROTATED, "ada", at, Origin("test"), None, {}) for _ in range(3)))

    def left(clock: SystemClock) -> int | None:
        EventExpiry(mirrored.database, mirrored.settings, clock).round()
        with mirrored.database.transaction() as tx:
            return tx.scalar(select(func.count()).select_from(Event))

    assert left(SystemClock()) == 3
    assert left(_Later()) == 0


class _Later(SystemClock):
    """Longer than the retention from now on."""

    def at(self) -> datetime:
        return super().at() + timedelta(seconds=120)
