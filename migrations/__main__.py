"""`python -m migrations upgrade | pending | downgrade REVISION | check | current | revision MESSAGE`.

`pending` says which revisions a database lacks, and fails if there are any: what waits for a release asks it.

`check` needs no server of its own to be running: with no DATABASE_URL it starts an embedded one and throws it away.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from core.errors import ConfigurationError
from core.settings import environment, load_settings
from models import feed
from models.database import Transaction


def configuration(database_url: str) -> Config:
    """Return Alembic's configuration for a database, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring a database to a revision. At the newest, the order of its events is mended, if it was restored."""
    command.upgrade(configuration(database_url), revision)
    if revision == "head":
        engine = create_engine(database_url)
        with Transaction(engine) as tx, tx.begin():
            feed.mend(tx)
        engine.dispose()


def downgrade(database_url: str, revision: str) -> None:
    """Take a database back to a revision ("base": nothing left)."""
    command.downgrade(configuration(database_url), revision)


def pending(database_url: str) -> list[str]:
    """Return the revisions that this code knows and a database does not have yet, the first one first."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        has = MigrationContext.configure(connection).get_current_heads()
    engine.dispose()
    known = ScriptDirectory.from_config(configuration(database_url))
    if any(revision not in {script.revision for script in known.walk_revisions()} for revision in has):
        return []  # a later release has been here: its changes are such that this code runs on them
    return [script.revision for script in known.iterate_revisions("heads", has or "base")][::-1]


def tell_pending(database_url: str) -> int:
    """Say what is pending; return an exit code."""
    missing = pending(database_url)
    if missing:
        print(f"The database lacks {', '.join(missing)}: run python -m migrations upgrade.", file=sys.stderr)
    return 1 if missing else 0


def check(database_url: str) -> None:
    """Raise CommandError if the tables in the code and the migrations differ. The database is at head."""
    command.check(configuration(database_url))


def check_somewhere(database_url: str) -> None:
    """Check against DATABASE_URL, or, where that is not set, against an embedded server that is thrown away."""
    if "DATABASE_URL" in environment():
        check(database_url)
        return
    from jelmore.embedded.postgres import Postgres  # an extra: production does not have it

    with TemporaryDirectory(prefix="jelmore-check-") as home:
        server = Postgres(Path(home), fast=True)
        try:
            own_url = load_settings({"DATABASE_URL": server.start()}).database_url
            upgrade(own_url)
            check(own_url)
        finally:
            server.stop()


def main(words: list[str]) -> int:
    """Run one command; answer with an exit code and, where it fails, a sentence."""
    try:
        url = load_settings().database_url
        match words:
            case ["upgrade"]:
                upgrade(url)
            case ["upgrade", revision]:
                upgrade(url, revision)
            case ["downgrade", revision]:
                downgrade(url, revision)
            case ["pending"]:
                return tell_pending(url)
            case ["check"]:
                check_somewhere(url)
            case ["current"]:
                command.current(configuration(url))
            case ["revision", message]:
                command.revision(configuration(url), message, autogenerate=True)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except OperationalError as fault:
        print(f"PostgreSQL at DATABASE_URL does not answer: {fault.orig}".strip(), file=sys.stderr)
        return 1
    except (ConfigurationError, CommandError) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
