"""The embedded PostgreSQL starts as whoever starts it, wherever it lies, and keeps its data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg2
import pytest

from jelmore.embedded import Postgres, ServerFailed
from jelmore.embedded.unprivileged import Account, copy_programs

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")


def ask(server: Postgres, statement: str) -> object:
    connection = psycopg2.connect(server.url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
    finally:
        connection.close()


def test_data_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    server = Postgres(tmp_path)
    try:
        server.start()
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop()
        server.start()
        assert ask(server, "SELECT answer FROM kept") == 42
        server.kill()
        server.start()
        assert ask(server, "SELECT answer FROM kept") == 42
    finally:
        server.stop()


def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    server = Postgres(tmp_path, fast=True)
    try:
        server.start()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(server.url.replace(server.password, "guessed"))
    finally:
        server.stop()


@as_root
def test_root_runs_it_from_below_a_directory_that_only_root_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "home", fast=True)
    # The programs, too, are where only root can go: a clone in /root has its .venv there.
    server._installation = lambda: _moved(closed)  # type: ignore[method-assign]
    try:
        server.start()
        assert ask(server, "SELECT 1") == 1
        copy = Path(server._copied_to.read_text())
        assert copy.is_dir()
    finally:
        server.stop()
    assert not copy.exists()


def _moved(closed: Path) -> Path:
    original = Postgres(closed)._installation()
    into = closed / "site-packages"
    return into / original.parent.name / original.name if into.exists() else copy_programs(original, _made(into))


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


@as_root
def test_a_directory_is_reached_only_if_all_above_it_are(tmp_path: Path) -> None:
    account = Account(65534, 65534)
    inside = tmp_path / "closed" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    inside.chmod(0o755)

    assert not account.reaches(inside)
    assert account.reaches(Path("/usr/bin"))


def test_data_of_another_version_is_a_sentence(tmp_path: Path) -> None:
    server = Postgres(tmp_path, fast=True)
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")

    with pytest.raises(ServerFailed, match="version"):
        server.start()
    server.stop()
    shutil.rmtree(server.data)


def test_its_log_has_errors_without_what_statements_were_given(tmp_path: Path) -> None:
    server = Postgres(tmp_path, fast=True)
    try:
        server.start()
        ask(server, "CREATE TABLE t (a text CHECK (a = 'x'))")
        for statement in ("INSERT INTO t VALUES ('hush')", "SELECT 'hush' || nothing"):
            with pytest.raises(psycopg2.Error):
                ask(server, statement)
    finally:
        server.stop()

    assert "violates check constraint" in server.log.read_text()
    assert "hush" not in server.log.read_text()
