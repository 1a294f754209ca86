"""Alembic's entry: runs migrations on the connection or the engine of the configured database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, text

from core.settings import load_settings
from models.tables import Base

MIGRATION_LOCK = 0x6A656C6E  # two releases at once take turns


def run(connection: Connection) -> None:
    """Run in one transaction under an advisory lock: all migrations or none."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
    else:
        engine = create_engine(context.config.attributes.get("url") or load_settings().database_url)
        with engine.connect() as opened:
            run(opened)
        engine.dispose()
