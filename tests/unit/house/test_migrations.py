"""Every migration leaves code of the release before it working: processes of both run side by side during a deployment.

Looked at is the SQL that a migration sends, whatever way it is written. What takes something away, or asks of rows what old code
does not write, waits for the release after the one that has stopped using it. A migration that does such a thing and may (a check
that only gets wider, a column that nothing has used for a release) says why in a module variable `BESIDE_OLD_CODE`.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from migrations.__main__ import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.script import Script

CONFIG = configuration("postgresql://nobody@localhost/nothing")
SCRIPTS = [*ScriptDirectory.from_config(CONFIG).walk_revisions()][::-1]

TAKES_AWAY = {
    r"\bDROP (TABLE|COLUMN|CONSTRAINT|SCHEMA|TYPE|VIEW|FUNCTION)\b": "drops something",
    r"\bRENAME\b": "renames something",
    r"\bALTER COLUMN \w+ (SET DATA )?TYPE\b": "changes a column's type",
    r"\bALTER COLUMN \w+ SET NOT NULL\b": "wants a value that old code does not write",
    r"\bALTER COLUMN \w+ DROP DEFAULT\b": "takes a default that old code relies on",
    r"\bADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL\b": "adds a column that old code does not write, without a default",
    r"\b(TRUNCATE|DELETE FROM)\b": "removes rows",
}
ON_OLD_TABLES = {
    r"\bCREATE UNIQUE INDEX \w+ ON (\w+)": "forbids rows that old code may write",
    r"\bALTER TABLE (\w+) ADD (CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY)": "forbids rows that old code may write",
}


def statements(script: Script) -> list[str]:
    """Return what a migration sends, but for Alembic's own book-keeping."""
    return split(sql_of(f"{script.down_revision or 'base'}:{script.revision}"))


def sql_of(span: str) -> str:
    with redirect_stdout(io.StringIO()) as written:
        config = configuration("postgresql://nobody@localhost/nothing")
        config.output_buffer = written
        command.upgrade(config, span, sql=True)
    return written.getvalue()


def split(sql: str) -> list[str]:
    plain = re.sub(r"--[^\n]*", "", sql)
    found = [" ".join(part.split()) for part in plain.split(";")]
    return [part for part in found if part and "alembic_version" not in part]


def faults(sent: list[str]) -> Iterator[str]:
    """Say what code of the release before could stumble over."""
    made = {match[1] for part in sent if (match := re.search(r"\bCREATE TABLE (\w+)", part))}
    for part in sent:
        yield from (
            f"{why}: {part[:120]}" for pattern, why in TAKES_AWAY.items() if re.search(pattern, part, re.IGNORECASE)
        )
        for pattern, why in ON_OLD_TABLES.items():
            match = re.search(pattern, part, re.IGNORECASE)
            if match and match[1] not in made:
                yield f"{why}: {part[:120]}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_a_migration_takes_nothing_from_the_code_before_it(script: Script) -> None:
    found = [*faults(statements(script))]

    assert not found or hasattr(script.module, "BESIDE_OLD_CODE"), found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_a_migration_follows_exactly_one_other(script: Script) -> None:
    assert not script.is_branch_point
    assert not script.is_merge_point
    assert script.doc
    assert script.module.downgrade.__doc__


@pytest.mark.parametrize(
    "sent",
    [
        "ALTER TABLE sessions DROP COLUMN pid",
        "ALTER TABLE sessions RENAME pid TO process",
        "ALTER TABLE sessions ALTER COLUMN pid TYPE BIGINT",
        "ALTER TABLE sessions ALTER COLUMN pid SET NOT NULL",
        "ALTER TABLE sessions ADD COLUMN colour TEXT NOT NULL",
        "CREATE UNIQUE INDEX ix ON sessions (query)",
        "ALTER TABLE sessions ADD CONSTRAINT short CHECK (length(query) < 9)",
        "DROP TABLE tickets",
        "DELETE FROM audit",
    ],
)
def test_what_takes_something_away_is_found(sent: str) -> None:
    assert [*faults([sent])]


@pytest.mark.parametrize(
    "sent",
    [
        ["ALTER TABLE sessions ADD COLUMN colour TEXT"],
        ["ALTER TABLE sessions ADD COLUMN colour TEXT DEFAULT 'red' NOT NULL"],
        ["CREATE TABLE colours (id UUID NOT NULL)", "CREATE UNIQUE INDEX ix ON colours (id)"],
        ["CREATE INDEX ix ON sessions (query)"],
    ],
)
def test_what_only_adds_is_let_through(sent: list[str]) -> None:
    assert not [*faults(sent)]
