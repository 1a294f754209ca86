"""The web tier on a real PostgreSQL and a real Valkey, twice: in a plain process, and under gunicorn's gevent worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx2
import pytest

from app import create_app
from app.web import Web, open_web
from core.ids import uuid7
from core.settings import Settings, load_settings
from tests.integration.app.holder import Holder
from tests.integration.app.serving import Api, Gunicorn
from tests.service import NO_RATE_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jelmore.embedded import Valkey

KEYS = {
    "root-key": {"permissions": ["admin"], "name": "root"},
    "ada-key": {"permissions": ["read", "write"], "name": "ada"},
    "bob-key": {"permissions": ["read", "write"], "name": "bob"},
}


@pytest.fixture(scope="session")
def database_url(new_database: Callable[[], str]) -> str:
    """One database for all of these tests: a web process is started for each."""
    return new_database()


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roots")


@pytest.fixture
def variables(database_url: str, valkey: Valkey, roots: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": valkey.url,
        "API_KEYS": json.dumps(KEYS),
        "SESSION_ROOTS": json.dumps([str(roots)]),
        "DEFAULT_PROGRAM": "shell",
        "MAX_CONCURRENT_SESSIONS": "10000",
        "HEARTBEAT_SECONDS": "0.3",
        "BODY_TIMEOUT_SECONDS": "1",
        **NO_RATE_LIMITS,
    }


@pytest.fixture
def settings(variables: dict[str, str]) -> Settings:
    return load_settings(variables)


@pytest.fixture(scope="session")
def webs() -> Iterator[Callable[[Settings], Web]]:
    """Open resources for these settings, once a run for the same ones."""
    opened: dict[str, Web] = {}

    def find(settings: Settings) -> Web:
        name = settings.model_dump_json()
        if name not in opened:
            opened[name] = open_web(settings)
        return opened[name]

    yield find
    for web in opened.values():
        web.close()


@pytest.fixture
def web(settings: Settings, webs: Callable[[Settings], Web]) -> Web:
    """Resources in the test's own process: what routes in a plain process use, and what tests look with."""
    return webs(settings)


@pytest.fixture(scope="session")
def gunicorns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gunicorn]]:
    """Start a web process for these variables, once a run for the same ones."""
    running: dict[str, Gunicorn] = {}

    def serve(variables: dict[str, str], **more: str) -> Gunicorn:
        name = json.dumps([variables, more], sort_keys=True)
        if name not in running:
            running[name] = Gunicorn(variables, tmp_path_factory.mktemp("gunicorn") / "log", **more)
            running[name].wait()
        return running[name]

    yield serve
    for gunicorn in running.values():
        gunicorn.stop()


@pytest.fixture
def serve(
    variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[Gunicorn, Api]]]:
    """Start web processes of a test's own, with the configuration they have in production."""
    started: list[Gunicorn] = []

    def start(**more: str) -> tuple[Gunicorn, Api]:
        given = {**variables, "GRACEFUL_TIMEOUT_SECONDS": "1", "HEARTBEAT_SECONDS": "15", **more}
        served = Gunicorn(given, tmp_path_factory.mktemp("web") / "log", config="gunicorn.conf.py")
        started.append(served)
        served.wait()
        return served, Api(httpx2.Client(base_url=served.url, timeout=30))

    yield start
    for served in started:
        served.stop()


@pytest.fixture
def plain(web: Web) -> Iterator[Api]:
    transport = httpx2.WSGITransport(app=create_app(world=web))
    with httpx2.Client(transport=transport, base_url="http://web") as client:
        yield Api(client)


@pytest.fixture
def gevent(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Iterator[Api]:
    with httpx2.Client(base_url=gunicorns(variables).url, timeout=30) as client:
        yield Api(client)


@pytest.fixture(params=["plain", "gevent"])
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def holder(web: Web) -> Iterator[Holder]:
    held = Holder(web)
    yield held
    held.leave()


@pytest.fixture
def label() -> str:
    """A user_id of this test's own: others' sessions are in the same database."""
    return str(uuid7())
