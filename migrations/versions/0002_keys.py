"""Keys that are rotated, tickets, and an audit chain with anchors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_keys"
down_revision = "0001"
branch_labels = None
depends_on = None

BESIDE_OLD_CODE = "api_keys.id changes its type and its names get unique: no release before has written a key"


def upgrade() -> None:
    """Change the tables of keys and audit, which nothing but audit rows were written to; add tickets and anchors."""
    op.alter_column("api_keys", "id", type_=sa.Uuid(), postgresql_using="id::uuid")
    op.add_column("api_keys", sa.Column("generation", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("api_keys", sa.Column("previous_hash", sa.LargeBinary(), nullable=True))
    op.add_column("api_keys", sa.Column("previous_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("api_keys", sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_api_keys_live_name", "api_keys", ["name"], unique=True, postgresql_where=sa.text("revoked_at IS NULL")
    )
    op.create_table(
        "tickets",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_tickets")),
    )
    op.create_index("ix_tickets_expires_at", "tickets", ["expires_at"], unique=False)
    op.add_column("audit", sa.Column("key_id", sa.Uuid(), nullable=True))
    op.add_column("audit", sa.Column("position", sa.BigInteger(), nullable=True))
    op.create_index("ix_audit_actor_id", "audit", ["actor", "id"], unique=False)
    op.create_index(
        "ix_audit_target_id", "audit", ["target", "id"], unique=False, postgresql_where=sa.text("target IS NOT NULL")
    )
    op.create_index(
        "ix_audit_position",
        "audit",
        ["position"],
        unique=True,
        postgresql_where=sa.text("position IS NOT NULL"),
    )
    op.create_table(
        "audit_anchors",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("audit_id", sa.BigInteger(), nullable=False),
        sa.Column("seal", sa.LargeBinary(), nullable=False),
        sa.Column("cut", sa.Boolean(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_audit_anchors")),
    )


def downgrade() -> None:
    """Take it all back; rows of the audit stay, without their seals."""
    op.drop_table("audit_anchors")
    op.execute("UPDATE audit SET seal = NULL WHERE seal IS NOT NULL")
    for name in ("ix_audit_position", "ix_audit_target_id", "ix_audit_actor_id"):
        op.drop_index(name, "audit")
    op.drop_column("audit", "position")
    op.drop_column("audit", "key_id")
    op.drop_table("tickets")
    op.drop_index("ix_api_keys_live_name", "api_keys")
    for name in ("rotated_at", "previous_expires_at", "previous_hash", "generation"):
        op.drop_column("api_keys", name)
    op.alter_column("api_keys", "id", type_=sa.Text(), postgresql_using="id::text")
