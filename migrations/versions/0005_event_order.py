"""An order of events that survives late commits and restores; what the mirror remembers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005_event_order"
down_revision = "0004_listing"
branch_labels = None
depends_on = None

# The last transaction that is over, if that is later than one's own: a session's next event never has a lower number,
# though its transaction may have begun earlier. VOLATILE: it sees what was committed while the statement waited for a lock.
EVENT_ORDER = """
    CREATE FUNCTION event_order() RETURNS bigint LANGUAGE sql VOLATILE AS $$
        SELECT GREATEST(
            pg_current_xact_id()::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1
        ) + shift FROM event_clock
    $$
"""


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "event_clock",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("shift", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_event_clock_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_event_clock")),
    )
    op.execute("INSERT INTO event_clock DEFAULT VALUES")
    op.execute(EVENT_ORDER)
    op.alter_column("events", "transaction", server_default=sa.text("event_order()"))
    op.add_column("events", sa.Column("dead", sa.Text(), nullable=True))
    op.create_index("ix_events_order", "events", ["transaction", "position"], unique=False)
    op.create_index("ix_events_owner_order", "events", ["owner", "transaction", "position"], unique=False)
    op.create_table(
        "mirror_state",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("published_per_second", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("notes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint("one", name=op.f("ck_mirror_state_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_mirror_state")),
    )
    op.create_table(
        "mirrored_output",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_mirrored_output_session_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_mirrored_output")),
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_table("mirrored_output")
    op.drop_table("mirror_state")
    op.drop_index("ix_events_owner_order", "events")
    op.drop_index("ix_events_order", "events")
    op.drop_column("events", "dead")
    op.alter_column("events", "transaction", server_default=sa.text("(pg_current_xact_id()::text::bigint)"))
    op.execute("DROP FUNCTION event_order()")
    op.drop_table("event_clock")
