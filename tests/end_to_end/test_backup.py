"""Back up and restore, and two releases side by side: what docs/operations.md says, literally."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import sql

from core.settings import load_settings
from migrations.__main__ import pending, upgrade
from tests.checks import eventually, how
from tests.servers import programs_of
from tests.service import ADMIN, installed
from tests.shell_blocks import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Callable

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
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
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


def test_code_runs_on_the_tables_of_the_release_after_it(tmp_path: Path, new_database: Callable[[], str]) -> None:
    """The next release is not there yet: so every table gets what a migration may add."""
    later = new_database()
    with psycopg2.connect(later) as connection, connection.cursor() as cursor:
        for table in tables(cursor):
            name = sql.Identifier(table)
            cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN added_later text").format(name))
            cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN also_later jsonb NOT NULL DEFAULT '{{}}'").format(name))
            cursor.execute(sql.SQL("CREATE INDEX ON {} (added_later)").format(name))
        cursor.execute("CREATE TABLE of_later (session_id uuid REFERENCES sessions (id) ON DELETE CASCADE)")
        cursor.execute("UPDATE alembic_version SET version_num = 'of_the_next_release'")
    connection.close()

    assert lacks(later) == []
    with installed(tmp_path / "old", later) as old:
        old.start("one")
        session_id = old.ada.create("cat", terminal={"rows": 10, "cols": 40})
        assert old.ada.input(session_id, "hello").status == 200
        eventually(lambda: b"hello" in old.ada.output(session_id))
        assert old.ada.delete(session_id).status == 200
        ended = old.ada.create("echo done; exit 3")
        assert old.ada.events(ended)[-1].data["exit_code"] == 3
        hook = {"url": "http://127.0.0.1:1/", "event_types": ["session.failed"]}
        assert old.ada.request("POST", "/api/v1/webhooks", hook).status < 500
        admin = old.client(ADMIN)
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
        errors = [line for member in old.members() for line in member.said().splitlines() if '"level":"error"' in line]
        assert errors == []


def tables(cursor: Any) -> list[str]:
    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'")
    return [str(name) for (name,) in cursor.fetchall()]


def test_what_a_database_lacks_is_named(empty_database: Callable[[], str]) -> None:
    url = empty_database()
    asked = [sys.executable, "-m", "migrations", "pending"]
    env = {"PATH": os.defpath, "DATABASE_URL": url}

    refused = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=60, check=False)
    upgrade(ours(url), "0001")
    later = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=60, check=False)
    upgrade(ours(url))
    well = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert refused.returncode == later.returncode == 1
    assert refused.stderr.startswith("The database lacks 0001, 0002_keys")
    assert later.stderr.startswith("The database lacks 0002_keys")
    assert (well.returncode, well.stdout, well.stderr) == (0, "", "")
