"""The resources under /api/v1, one module each."""

from __future__ import annotations

from app.api.root import blueprint

# Importing a module puts its routes on the blueprint.
from app.api import audit, controls, inputs, keys, output, sessions, streams, tickets, waits, websocket  # isort: skip

__all__ = [
    "blueprint",
    "audit",
    "controls",
    "inputs",
    "keys",
    "output",
    "sessions",
    "streams",
    "tickets",
    "waits",
    "websocket",
]
