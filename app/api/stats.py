"""Figures of the service: how many sessions live and wait, and how many streams are open, over all processes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, PlainSerializer

from app.api.root import blueprint
from app.auth import current_caller, requires
from app.health import SERVICE
from app.keyring import Permission
from app.web import current_web
from core.version import VERSION
from models import backlog, sessions, workers
from models.lifecycle import LIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask.typing import ResponseReturnValue

    from app.web import Web


Seconds = Annotated[float, PlainSerializer(lambda seconds: int(seconds) if seconds == int(seconds) else seconds)]
"""Whole ones without a fraction, as they are set."""


class SessionStats(BaseModel):
    """Sessions that have not ended, those that wait included. Intervals: seconds."""

    active_sessions_count: int
    by_status: dict[str, int]
    by_program: dict[str, int]
    service_running: bool
    monitoring_interval_seconds: Seconds
    cleanup_interval_seconds: Seconds


class WebSocketStats(BaseModel):
    """Open streams and sockets of all web processes. `complete`: false while Redis is away, then only this process counts."""

    total_connections: int
    sessions_with_connections: int
    manager_running: bool
    processes: int
    complete: bool


class QueueStats(BaseModel):
    """Sessions that wait for a slot. `oldest_seconds`: since the first of them was created; null if none waits."""

    waiting: int
    oldest_seconds: float | None


class WorkerStats(BaseModel):
    """Workers that are alive, the slots they have, and how many of those hold sessions that one may see."""

    alive: int
    slots: int
    used: int


class SettingsShown(BaseModel):
    """What the service was told. Seconds."""

    max_concurrent_sessions: int
    session_timeout_seconds: Seconds
    cleanup_interval_seconds: Seconds
    api_prefix: str
    cors_origins: list[str]


class StatsView(BaseModel):
    """GET /stats. `timestamp`: seconds since 1970. `uptime_seconds`: of the web process that answers."""

    service: str
    version: str
    timestamp: float
    uptime_seconds: float
    session_stats: SessionStats
    websocket_stats: WebSocketStats
    queue: QueueStats
    workers: WorkerStats
    settings: SettingsShown


@blueprint.get("/stats")
@requires(Permission.READ)
def show_stats() -> ResponseReturnValue:
    """Show figures: of one's own sessions, to administrators of all."""
    web, owner = current_web(), current_caller().sees
    with web.database.transaction() as tx:
        live, waiting = sessions.count_by_status(tx, owner), backlog.look(tx, owner)
        alive = workers.alive(tx)
    at = web.clock.at()
    connections = web.census.read(owner)
    view = StatsView(
        service=SERVICE,
        version=VERSION,
        timestamp=at.timestamp(),
        uptime_seconds=round(web.census.uptime_seconds, 3),
        session_stats=_session_stats(web, live),
        websocket_stats=WebSocketStats(
            total_connections=connections.streams,
            sessions_with_connections=connections.sessions,
            manager_running=True,
            processes=connections.processes,
            complete=connections.complete,
        ),
        queue=QueueStats(waiting=waiting.length, oldest_seconds=waiting.seconds(at)),
        workers=WorkerStats(
            alive=len(alive),
            slots=sum(worker.slots for worker in alive),
            used=sum(live.values()) - waiting.length,
        ),
        settings=_settings(web),
    )
    return view.model_dump(mode="json")


def _session_stats(web: Web, live: Mapping[tuple[str, str], int]) -> SessionStats:
    statuses: Counter[str] = Counter(dict.fromkeys(map(str, LIVE), 0))
    programs: Counter[str] = Counter()
    for (program, status), count in live.items():
        statuses[status] += count
        programs[program] += count
    return SessionStats(
        active_sessions_count=sum(live.values()),
        by_status=dict(statuses),
        by_program=dict(programs),
        service_running=True,
        monitoring_interval_seconds=web.settings.session_monitoring_interval_seconds,
        cleanup_interval_seconds=web.settings.session_cleanup_interval_seconds,
    )


def _settings(web: Web) -> SettingsShown:
    settings = web.settings
    return SettingsShown(
        max_concurrent_sessions=settings.max_concurrent_sessions,
        session_timeout_seconds=settings.session_default_timeout_seconds,
        cleanup_interval_seconds=settings.session_cleanup_interval_seconds,
        api_prefix=settings.api_prefix,
        cors_origins=list(settings.cors_origins),
    )
