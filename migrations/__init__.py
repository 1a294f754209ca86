"""Alembic migrations of the system of record, and the command that runs them (`python -m migrations`)."""
