"""Indexes for finding sessions by user and by metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_listing"
down_revision = "0003_idempotency"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them."""
    op.create_index(
        "ix_sessions_user_id_id",
        "sessions",
        ["user_id", "id"],
        unique=False,
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.create_index(
        "ix_sessions_metadata",
        "sessions",
        ["metadata"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_sessions_metadata", "sessions")
    op.drop_index("ix_sessions_user_id_id", "sessions")
