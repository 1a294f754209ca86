"""What sessions of Claude Code need: requests for decisions, states of input behind written, whose conversation goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007_conversations"
down_revision = "0006_webhooks"
branch_labels = None
depends_on = None

BESIDE_OLD_CODE = "the check of inputs.state is made anew and allows two states more: all that old code writes"

BEFORE = "state IN ('accepted', 'writing', 'written', 'failed', 'unknown')"
STATES = "state IN ('accepted', 'writing', 'written', 'answered', 'interrupted', 'failed', 'unknown')"


def upgrade() -> None:
    """Add them."""
    for name, kind in (("program_state", postgresql.JSONB()), ("resumed_from", sa.Uuid()), ("fork_of", sa.Uuid())):
        op.add_column("sessions", sa.Column(name, kind, nullable=True))
    _allow(STATES)
    op.create_table(
        "requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("input", postgresql.JSONB(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("changed_input", postgresql.JSONB(), nullable=True),
        sa.Column("remember", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'allowed', 'denied', 'withdrawn')", name=op.f("ck_requests_state")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_requests_session_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_session_id_id", "requests", ["session_id", "id"], unique=False)
    op.create_index(
        "ix_requests_open", "requests", ["session_id"], unique=False, postgresql_where=sa.text("state = 'open'")
    )


def _allow(states: str) -> None:
    op.drop_constraint(op.f("ck_inputs_state"), "inputs", type_="check")
    op.create_check_constraint(op.f("ck_inputs_state"), "inputs", states)


def downgrade() -> None:
    """Take them away."""
    op.drop_table("requests")
    op.execute("UPDATE inputs SET state = 'written' WHERE state IN ('answered', 'interrupted')")
    _allow(BEFORE)
    for name in ("fork_of", "resumed_from", "program_state"):
        op.drop_column("sessions", name)
