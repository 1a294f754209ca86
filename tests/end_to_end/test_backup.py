"""Back up and restore, and two releases side by side: what docs/operations.md says, literally."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from core.settings import load_settings
from migrations.__main__ import pending, upgrade
from tests.checks import eventually, how
from tests.servers import programs_of
from tests.service import ADMIN, installed
from tests.shell_blocks import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jelmore.embedded import Postgres
    from tests.client import Client
    from tests.service import Service

PRINTS = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
LIVES = "echo before; sleep 600"
EVENTS = "/api/v1/events?limit=500"


def run_block(number: int, postgres: Postgres, **variables: str) -> str:
    """Run a block of the chapter, in an empty directory with nothing but the environment the chapter speaks of."""
    chapter = [block for block in blocks("docs/operations.md") if block.heading == "Backup and restore"]
    env = {"PATH": f"{programs_of(postgres)}:{os.defpath}", "LANG": "C.UTF-8", **variables}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", chapter[number].text],
        cwd=variables["HOME"], env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def types_of(client: Client) -> list[tuple[str, str]]:
    return [(each["event_id"], each["event_type"]) for each in client.request("GET", EVENTS).json()]


def test_a_dump_restored_into_an_empty_database_has_output_events_and_audit_whole(
    tmp_path: Path, postgres: Postgres, service: Service, empty_database: Callable[[], str]
) -> None:
    ended, live = service.ada.create(PRINTS), service.ada.create(LIVES)
    before = service.ada.events(ended)[-1].data
    stored = "SELECT 1 FROM segments WHERE session_id = %s AND end_offset = 7"
    eventually(lambda: service.rows(stored, live))  # a second after everybody has read it
    printed = service.ada.output(ended)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for package in ("app", "migrations"):
        (tmp_path / package).symlink_to(ROOT / package)
    known = types_of(service.ada)
    run_block(0, postgres, HOME=str(tmp_path), DATABASE_URL=service.database_url)
    restored = empty_database()
    assert lacks(restored)
    said = run_block(1, postgres, HOME=str(tmp_path), DATABASE_URL=service.database_url, RESTORED_URL=restored)
    service.ada.delete(live, timeout=20)

    assert "rows hold" in said
    assert lacks(restored) == []
    with installed(tmp_path / "again", restored, WORKER_SLOTS="4") as again:
        again.start("two")
        assert again.ada.output(ended) == printed
        assert how(again.ada.get(ended)) == how(before)
        assert again.ada.events(ended)[-1].data == before
        assert hashlib.sha256(printed).hexdigest() == before["output_sha256"]
        assert types_of(again.ada)[: len(known)] == known
        eventually(lambda: how(again.ada.get(live)) == ("failed", "worker_lost"), again.takeover_seconds)
        assert again.ada.output(live) == b"before\n"
        new = again.ada.create("echo on")
        assert again.ada.events(new)[-1].data["exit_code"] == 0
        told = types_of(again.ada)
        assert [kind for _, kind in told[len(known) :]][-1] == "session.completed"


def ours(url: str) -> str:
    """Return a URL as the settings have it."""
    return load_settings({"DATABASE_URL": url}).database_url


def lacks(url: str) -> list[str]:
    return pending(ours(url))


@contextmanager
def tables_of_the_next_release(url: str) -> Iterator[None]:
    """Add to every table, under those who use it, what a migration may add; take it away again."""
    connection = psycopg2.connect(url)
    connection.autocommit = True  # one table at a time: nobody waits for two of them
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
        tables = [sql.Identifier(name) for (name,) in cursor.fetchall()]
        cursor.execute("SELECT version_num FROM alembic_version")
        version = cursor.fetchone()
        for table in tables:
            added = "ADD COLUMN added_later text, ADD COLUMN also_later jsonb NOT NULL DEFAULT '{{}}'"
            cursor.execute(sql.SQL(f"ALTER TABLE {{}} {added}").format(table))
            cursor.execute(sql.SQL("CREATE INDEX ON {} (added_later)").format(table))
        cursor.execute("CREATE TABLE of_later (session_id uuid REFERENCES sessions (id) ON DELETE CASCADE)")
        cursor.execute("UPDATE alembic_version SET version_num = 'of_the_next_release'")
        try:
            yield
        finally:
            cursor.execute("UPDATE alembic_version SET version_num = %s", version)
            cursor.execute("DROP TABLE of_later")
            for table in tables:
                cursor.execute(sql.SQL("ALTER TABLE {} DROP COLUMN added_later, DROP COLUMN also_later").format(table))
    connection.close()


def errors_of(service: Service) -> list[str]:
    return [line for member in service.members() for line in member.said().splitlines() if '"level":"error"' in line]


def test_code_goes_on_while_the_next_release_adds_to_its_tables(service: Service) -> None:
    ada, admin = service.ada, service.client(ADMIN)
    session_id, known = ada.create("cat", terminal={"rows": 10, "cols": 40}), errors_of(service)
    with tables_of_the_next_release(service.database_url):
        assert lacks(service.database_url) == []
        assert ada.input(session_id, "hello").status == 200
        eventually(lambda: b"hello" in ada.output(session_id))
        assert ada.delete(session_id).status == 200
        assert ada.events(ada.create("echo done; exit 3"))[-1].data["exit_code"] == 3
        made = admin.request("POST", "/api/v1/keys", {"name": "later", "permissions": ["read"]})
        assert made.status == 201
        for path in (
            "/api/v1/sessions?count=true",
            EVENTS,
            "/api/v1/audit",
            "/api/v1/keys",
            "/api/v1/stats",
            "/health",
        ):
            assert admin.request("GET", path).status == 200, path
    assert errors_of(service) == known


def test_what_a_database_lacks_is_named(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    asked = [sys.executable, "-m", "migrations", "pending"]
    env = {"PATH": os.defpath, "DATABASE_URL": url}

    upgrade(ours(url), "0001")
    refused = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=60, check=False)
    upgrade(ours(url))

    assert refused.returncode == 1
    assert refused.stderr.startswith("The database lacks 0002_keys, ")
    assert lacks(url) == []
