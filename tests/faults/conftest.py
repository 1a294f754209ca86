"""One installation that every fault test breaks and the next one finds whole again: own servers, two workers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.settings import load_settings
from jelmore.embedded import Postgres
from migrations.__main__ import upgrade
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client import Client
    from tests.service import Service


@pytest.fixture(scope="session")
def faults_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="session")
def breakable_postgres(faults_home: Path) -> Iterator[Postgres]:
    """A server of these tests' own: it is killed."""
    server = Postgres(faults_home / "servers", fast=True)
    try:
        server.start()
        upgrade(load_settings({"DATABASE_URL": server.url}).database_url)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def breakable(faults_home: Path, breakable_postgres: Postgres) -> Iterator[Service]:
    with installed(faults_home, breakable_postgres.url) as service:
        yield service


@pytest.fixture
def service(breakable: Service, breakable_postgres: Postgres) -> Iterator[Service]:
    """The installation, whole: web, beat and the worker `one` run, and nothing of former sessions does."""
    yield whole(breakable, breakable_postgres)
    if (other := breakable.workers.get("two")) is not None:
        other.stop()


def whole(service: Service, postgres: Postgres) -> Service:
    """Repair whatever a test broke."""
    for server in (postgres, service.valkey):
        server.resume()
        server.start()
    service.start("one")
    for shown in service.admin.request("GET", "/api/v1/sessions?limit=1000").json():
        if shown["terminated_at"] is None:
            service.admin.delete(shown["session_id"], "?wait=25")
    return service


@pytest.fixture
def ada(service: Service) -> Client:
    return service.ada
