"""Two installations that every fault test breaks and the next one finds whole again, each with servers of its own.

`service` is broken as a whole: its servers and processes are killed. Of `elsewhere` the workers' ways to its servers are cut.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from core.settings import load_settings
from jelmore.embedded import Postgres
from migrations.__main__ import upgrade
from tests.client import SESSIONS
from tests.service import FULL_LENGTH, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.client import Client
    from tests.service import Service

FULL_LENGTH_TIMEOUT_SECONDS: Final = 900
SLOTS: Final = 24
MIB: Final = 1024 * 1024
LIMITS: Final = {
    "WORKER_SLOTS": str(SLOTS),
    "SESSION_MAX_MEMORY_BYTES": str(512 * MIB),
    "SESSION_MAX_OUTPUT_BYTES": str(2048 * MIB),
}
NOT_TO_BE_STARTED: Final = {"missing": {"argv": ["/nonexistent/program"]}, "no-program": {"argv": ["/etc/passwd"]}}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """At full length a test may take as long as what it waits for."""
    if FULL_LENGTH:
        for item in items:
            item.add_marker(pytest.mark.timeout(FULL_LENGTH_TIMEOUT_SECONDS), append=False)


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
    with installed(faults_home, breakable_postgres.url, **LIMITS) as service:
        yield service


@pytest.fixture
def service(breakable: Service, breakable_postgres: Postgres) -> Iterator[Service]:
    """The installation, whole: web, beat and the worker `one` run, and nothing of former sessions does."""
    yield whole(breakable, breakable_postgres)
    breakable.dismiss()


@pytest.fixture(scope="session")
def separate(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    programs = json.dumps(NOT_TO_BE_STARTED)
    settings = LIMITS | {"JELMORE_PROGRAMS": programs, "PROGRAMS_ENABLED": "shell,missing,no-program"}
    with installed(tmp_path_factory.mktemp("elsewhere"), new_database(), **settings) as service:
        yield service


@pytest.fixture
def elsewhere(separate: Service) -> Iterator[Service]:
    """The other installation, without a worker: web and beat run; tests start the workers they need."""
    separate.dismiss("one")
    yield repaired(separate)
    separate.valkey.resume()
    separate.dismiss(*separate.workers)


@pytest.fixture
def staffed(separate: Service) -> Iterator[Service]:
    """The other installation with its worker `one`, which stays for the next test."""
    separate.worker("one")
    yield repaired(separate)
    separate.valkey.resume()
    separate.dismiss()


def repaired(service: Service) -> Service:
    """Have its servers run and its processes ready, and nothing of former sessions left."""
    service.valkey.resume()
    service.valkey.start()
    service.start()
    end_all(service)
    return service


def whole(service: Service, postgres: Postgres) -> Service:
    """Repair whatever a test broke."""
    for server in (postgres, service.valkey):
        server.resume()
        server.start()
    service.start("one")
    end_all(service)
    return service


def end_all(service: Service) -> None:
    """End every session there is."""
    shown = service.admin.request("GET", f"{SESSIONS}?limit=1000").json()
    open_ones = [session["session_id"] for session in shown if session["terminated_at"] is None]
    for session_id in open_ones:
        service.admin.delete(session_id, "?wait=0")
    for session_id in open_ones:
        service.admin.delete(session_id, "?wait=25")


@pytest.fixture
def ada(service: Service) -> Client:
    return service.ada
