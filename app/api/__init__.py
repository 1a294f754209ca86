"""The resources under /api/v1, one module each."""

from __future__ import annotations

from app.api.root import blueprint

# Importing a module puts its routes on the blueprint.
from app.api import controls, inputs, listing, output, sessions, streams, waits  # isort: skip

__all__ = ["blueprint", "controls", "inputs", "listing", "output", "sessions", "streams", "waits"]
