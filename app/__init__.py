"""The web tier: what the world sees. `gunicorn -k gevent 'app:create_app()'`.

Importing this package imports nothing else: gunicorn's gevent worker patches the process first and then calls `create_app`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.web import Web
    from core.settings import Settings


def create_app(settings: Settings | None = None, world: Web | None = None) -> Flask:
    """Return the Flask application. `world`: what the process has opened already; without it, it is opened here."""
    from app.factory import build  # after the process is patched: this imports everything

    return build(settings, world)
