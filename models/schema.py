"""Which migration a database is at, which one this code wants, and what time it is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from models.database import Transaction

DIGITS: Final = 4
VERSIONS: Final = Path(__file__).resolve().parent.parent / "migrations" / "versions"

_THERE: Final = text("SELECT to_regclass('alembic_version') IS NOT NULL")


@dataclass(frozen=True, slots=True)
class Migrations:
    """`at`: the database's, None for a database without tables. `pending`: those it lacks, oldest first."""

    at: str | None
    newest: str
    pending: tuple[str, ...]


@lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """Return this code's migrations, oldest first, as they were when this process asked first. Their names begin with a number."""
    return tuple(sorted(file.stem for file in VERSIONS.glob("[0-9]*.py")))


def migrations(tx: Transaction) -> Migrations:
    """Look where the database is. One that is ahead of this code lacks nothing: migrations only add."""
    all_of_them = known()
    at = tx.scalar(text("SELECT version_num FROM alembic_version")) if tx.scalar(_THERE) else None
    return between(at, all_of_them)


def between(at: str | None, all_of_them: tuple[str, ...]) -> Migrations:
    """Compare. Names that this code does not know are newer ones."""
    newest = all_of_them[-1] if all_of_them else ""
    if at is None:
        return Migrations(None, newest, all_of_them)
    return Migrations(at, newest, tuple(each for each in all_of_them if each[:DIGITS] > at[:DIGITS]))


def clock(tx: Transaction) -> float:
    """Return the time of the database's clock, in seconds since 1970."""
    return float(tx.scalar(text("SELECT EXTRACT(EPOCH FROM clock_timestamp())")) or 0.0)
