"""A web tier whose servers are all away: what it says before it asks anybody, and what it says then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from app import create_app
from app.web import Web, open_web
from core.settings import Settings, load_settings
from tests.service import NO_RATE_LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask.testing import FlaskClient

KEYS = {
    "root-key": {"permissions": ["admin"], "name": "root"},
    "ada-key": {"permissions": ["read", "write"], "name": "ada"},
    "reader-key": {"permissions": ["read"], "name": "reader", "owner": "ada"},
    "writer-key": {"permissions": ["write"], "name": "writer", "owner": "ada"},
}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(
        {
            # Port 1 is nobody's: connections are refused at once.
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "API_KEYS": json.dumps(KEYS),
            **NO_RATE_LIMITS,
        }
    )


@pytest.fixture(scope="module")
def web(settings: Settings) -> Iterator[Web]:
    opened = open_web(settings)
    yield opened
    opened.close()


@pytest.fixture
def application(web: Web) -> Flask:
    return create_app(world=web)


@pytest.fixture
def client(application: Flask) -> FlaskClient:
    return application.test_client()


@pytest.fixture
def ada() -> dict[str, str]:
    return {"Authorization": "Bearer ada-key"}
