"""Whether this process and what it depends on are well. No key needed; every answer is bounded in time.

`/health` says all, `/health/live` only that the process answers, `/health/ready` whether requests can be served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response

from app import gauges
from app.web import current_web
from core import metrics
from core.errors import DatabaseUnavailable, Leaving, MetricsUnavailable
from core.version import VERSION

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

blueprint = Blueprint("health", __name__)

SERVICE = "jelmore-integrated-api"


@blueprint.get("/health")
def health() -> ResponseReturnValue:
    """Look at everything. Without PostgreSQL nothing can be promised; without anything else a part is missing."""
    web = current_web()
    findings = web.checks.look()
    status = "healthy" if all(finding.well for finding in findings.values()) else "degraded"
    if not findings["database"].well:
        status = "unhealthy"
    body = {
        "status": status,
        "service": SERVICE,
        "version": VERSION,
        "timestamp": web.clock.at().timestamp(),
        "infrastructure": {name: finding.as_json() for name, finding in findings.items()},
    }
    return body, 503 if status == "unhealthy" else 200


@blueprint.get("/health/live")
def live() -> ResponseReturnValue:
    """Say that the process answers, and nothing else."""
    return {"status": "alive"}


@blueprint.get("/health/ready")
def ready() -> ResponseReturnValue:
    """Say whether requests can be served, and are to be sent here: not any more when this process leaves."""
    if current_web().hub.leaving:
        raise Leaving
    if not current_web().checks.look(("database",))["database"].well:
        raise DatabaseUnavailable
    return {"status": "ready"}


@blueprint.get("/metrics")
def show_metrics() -> ResponseReturnValue:
    """Show every metric of the web processes, and how many sessions are live now, if PostgreSQL says."""
    text, content_type = _rendered()
    web = current_web()
    now = gauges.scrape(web.database, mirrored=web.settings.nats_url is not None, at=web.clock.at())
    return Response(text + now, content_type=content_type)


def _rendered() -> tuple[bytes, str]:
    try:
        return metrics.render()
    except (OSError, ValueError) as fault:  # the directory that web processes share is gone
        raise MetricsUnavailable from fault
