"""A web tier whose servers are all away: what it says before it asks anybody, and what it says then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from app import create_app
from app.web import open_web
from core.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

KEYS = {
    "root-key": {"permissions": ["admin"], "name": "root"},
    "ada-key": {"permissions": ["read", "write"], "name": "ada"},
    "reader-key": {"permissions": ["read"], "name": "reader", "owner": "ada"},
    "writer-key": {"permissions": ["write"], "name": "writer", "owner": "ada"},
}


@pytest.fixture
def settings() -> Settings:
    return load_settings(
        {
            # Port 1 is nobody's: connections are refused at once.
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "API_KEYS": json.dumps(KEYS),
        }
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[FlaskClient]:
    web = open_web(settings)
    yield create_app(world=web).test_client()
    web.close()


@pytest.fixture
def ada() -> dict[str, str]:
    return {"Authorization": "Bearer ada-key"}
