"""The resources under /api/v1, one module each."""

from __future__ import annotations

from app.api.root import blueprint

# Importing a module puts its routes on the blueprint.
from app.api import (  # isort: skip
    audit,
    controls,
    events,
    inputs,
    keys,
    listing,
    output,
    recordings,
    requests,
    resuming,
    search,
    sessions,
    stats,
    streams,
    tickets,
    waits,
    webhooks,
    websocket,
)

__all__ = [
    "blueprint",
    "audit",
    "controls",
    "events",
    "inputs",
    "keys",
    "listing",
    "output",
    "recordings",
    "requests",
    "resuming",
    "search",
    "sessions",
    "stats",
    "streams",
    "tickets",
    "waits",
    "webhooks",
    "websocket",
]
