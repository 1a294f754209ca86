"""The servers tests run against: real ones, started once a run on free ports in a temporary directory, always stopped."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2 import sql

from core.settings import load_settings
from jelmore.embedded import Nats, Postgres, Valkey
from migrations.__main__ import upgrade
from tests.leaks import KNOWN, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jelmore.embedded import EmbeddedServer

TEMPLATE = "migrated"
_numbers = itertools.count(1)


def running(server: EmbeddedServer) -> Iterator[Any]:
    """Start a server, hand it out, stop it whatever happened."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def servers_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def valkey(servers_home: Path) -> Iterator[Valkey]:
    server = Valkey(servers_home, fast=True)
    yield from running(server)
    refuse(KNOWN.in_home(server.directory))  # its files have everything that was ever written to it


@pytest.fixture(scope="session")
def nats(servers_home: Path) -> Iterator[Nats]:
    server = Nats(servers_home, fast=True)
    yield from running(server)
    refuse(KNOWN.in_home(server.directory))


@pytest.fixture(scope="session")
def postgres(servers_home: Path) -> Iterator[Postgres]:
    server = Postgres(servers_home, fast=True)
    yield from running(server)
    refuse(KNOWN.in_file(server.log, "the log of PostgreSQL"))


def on_server(postgres: Postgres, statement: sql.Composable) -> None:
    """Execute a statement that no transaction can hold."""
    connection = psycopg2.connect(postgres.url_of("postgres"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def programs_of(postgres: Postgres) -> str:
    """Return where pg_dump is, as new as the server."""
    return str(Path(postgres.command()[0]).parent)


@pytest.fixture(scope="session")
def new_database(postgres: Postgres) -> Iterator[Callable[[], str]]:
    """Return a maker of databases with the tables in them; cloning a migrated one takes 30 ms. All are looked through."""
    on_server(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(load_settings({"DATABASE_URL": postgres.url_of(TEMPLATE)}).database_url)
    yield from _copies(postgres, TEMPLATE)


@pytest.fixture(scope="session")
def empty_database(postgres: Postgres) -> Iterator[Callable[[], str]]:
    """Return a maker of databases as createdb leaves them. All are looked through."""
    yield from _copies(postgres, "template1")


def _copies(postgres: Postgres, template: str) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        name = f"test_{next(_numbers)}"
        clone = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        on_server(postgres, clone)
        made.append(postgres.url_of(name))
        return made[-1]

    yield make
    refuse(leak for url in made if url not in KNOWN.databases for leak in KNOWN.in_database(url))


@pytest.fixture(scope="module")
def database_url(new_database: Callable[[], str]) -> str:
    return new_database()
