"""The tables of the system of record. Columns, constraints and indexes only; what is done with them stands in one module per noun.

`segments` and `events` are to be partitioned by time one day: their keys begin with a UUIDv7, which is ordered by time.
Enumerations are text with a check, not PostgreSQL enums: a new status must not need an exclusive lock.

Longer than other modules because it is one list: every table, with what its columns mean.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID  # noqa: TC003  (SQLAlchemy reads the annotations when the classes are made)

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from models.lifecycle import LIVE, Status

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

INPUT_STATES = ("accepted", "writing", "written", "answered", "interrupted", "failed", "unknown")
REQUEST_STATES = ("open", "allowed", "denied", "withdrawn")


def _one_of(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


LIVE_ONLY = text(_one_of("status", tuple(sorted(LIVE))))


class Base(DeclarativeBase):
    """Every time is timestamptz; Python text is PostgreSQL text, without lengths: lengths are the API's rules."""

    metadata = MetaData(naming_convention=CONVENTION)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own protocol)
        datetime: DateTime(timezone=True),
        str: Text(),
        dict[str, Any]: JSONB(none_as_null=True),
        dict[str, str]: JSONB(none_as_null=True),
        bytes: LargeBinary(),
    }


class Worker(Base):
    """One row per incarnation of a worker process. The name is a label; the incarnation is the identity."""

    __tablename__ = "workers"

    incarnation: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    host: Mapped[str]
    node: Mapped[str]
    """Celery node name; its direct queue is `<node>.dq2`."""
    pid: Mapped[int]
    slots: Mapped[int]
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    draining_at: Mapped[datetime | None]
    lost_at: Mapped[datetime | None]
    """Set once, by housekeeping, a successor, or the worker itself when it leaves. Never unset."""

    __table_args__ = (Index("ix_workers_alive", "seen_at", postgresql_where=text("lost_at IS NULL")),)


class Session(Base):
    """One run of one program, from the request to its end."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str]
    created_by: Mapped[str]
    user_id: Mapped[str | None]
    program: Mapped[str]
    query: Mapped[str]
    requested_directory: Mapped[str | None]
    current_directory: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    env: Mapped[dict[str, str]] = mapped_column(server_default=text("'{}'"))
    """Chosen by the client. Never returned, logged or cached; emptied at the end."""
    terminal: Mapped[dict[str, Any] | None]
    program_options: Mapped[dict[str, Any] | None]
    program_state: Mapped[dict[str, Any] | None]
    """What the holder knows of the program's own affairs (`core.conversations`): kept for a holder after it, and shown as usage."""
    resumed_from: Mapped[UUID | None]
    """The ended session whose conversation this one goes on with."""
    fork_of: Mapped[UUID | None]
    """The session of whose conversation this one is a branch."""
    priority: Mapped[str] = mapped_column(server_default="normal")
    timeout_seconds: Mapped[int]
    idle_timeout_seconds: Mapped[int | None]
    request_id: Mapped[str | None]

    status: Mapped[str] = mapped_column(server_default=Status.INITIALIZING)
    stop_reason: Mapped[str | None]
    """Why it is `terminating`; becomes `reason` at the end."""
    reason: Mapped[str | None]
    reason_detail: Mapped[str | None]
    error: Mapped[str | None]
    exit_code: Mapped[int | None]
    exit_signal: Mapped[str | None]
    pid: Mapped[int | None]

    worker: Mapped[UUID | None] = mapped_column(ForeignKey("workers.incarnation"))
    worker_name: Mapped[str | None]
    claim: Mapped[str | None]
    """Id of the task delivery that won."""
    claimed_at: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    sent_at: Mapped[datetime | None]
    sends: Mapped[int] = mapped_column(server_default=text("0"))

    last_input_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_sha256: Mapped[str | None]

    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    last_activity_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(_one_of("status", tuple(Status)), name="status"),
        CheckConstraint(f"(status IN ('completed', 'terminated', 'failed')) = (ended_at IS NOT NULL)", name="ended"),  # noqa: F541
        Index("ix_sessions_owner_id", "owner", "id"),
        Index("ix_sessions_user_id_id", "user_id", "id", postgresql_where=text("user_id IS NOT NULL")),
        Index(
            "ix_sessions_metadata",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ),
        # Every live session: counted for the caps, looked at by holders and housekeeping. Small whatever the history.
        Index("ix_sessions_live", "worker", "status", "owner", postgresql_where=LIVE_ONLY),
        Index(
            "ix_sessions_queued",
            "created_at",
            postgresql_where=text("status = 'initializing' AND worker IS NULL"),
        ),
        Index("ix_sessions_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )


class Input(Base):
    """A session's mailbox: everything that is asked of a live session, in order."""

    __tablename__ = "inputs"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    input_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[UUID]
    kind: Mapped[str]
    body: Mapped[bytes] = mapped_column(server_default=text("''"))
    """Exactly what is written to the process; empty for kinds that write nothing."""
    detail: Mapped[dict[str, Any] | None]
    """Arguments of a kind that is no input: signal, rows and columns, the reason of a stop."""
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    state: Mapped[str] = mapped_column(server_default="accepted")
    reason: Mapped[str | None]
    output_offset: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str]
    request_id: Mapped[str | None]
    created_at: Mapped[datetime]
    written_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(_one_of("state", INPUT_STATES), name="state"),
        Index(
            "ix_inputs_undelivered",
            "session_id",
            "input_seq",
            postgresql_where=text("state IN ('accepted', 'writing')"),
        ),
    )


class Request(Base):
    """What a program wants somebody to decide before it goes on."""

    __tablename__ = "requests"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    kind: Mapped[str]
    tool: Mapped[str]
    input: Mapped[dict[str, Any]]
    """What the tool is to be given. May hold secrets: shown to who may read the session, told to nobody else."""
    description: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="open")
    message: Mapped[str | None]
    """What the program is told with a denial."""
    changed_input: Mapped[dict[str, Any] | None]
    """What the tool was given in the place of `input`."""
    remember: Mapped[str | None]
    decided_by: Mapped[str | None]
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(_one_of("state", REQUEST_STATES), name="state"),
        Index("ix_requests_session_id_id", "session_id", "id"),
        Index("ix_requests_open", "session_id", postgresql_where=text("state = 'open'")),
    )


class Segment(Base):
    """A stretch of a session's log. Contiguous: the primary key is a compare-and-swap between two writers."""

    __tablename__ = "segments"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    first_offset: Mapped[int] = mapped_column(BigInteger)
    end_offset: Mapped[int] = mapped_column(BigInteger)
    entries: Mapped[bytes]
    """Packed entries one after the other (streams/entries.py)."""
    stored_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (
        CheckConstraint("first_seq >= 1 AND last_seq >= first_seq", name="order"),
        CheckConstraint("end_offset >= first_offset", name="offsets"),
        # GET output looks for the first stretch that ends behind an offset.
        Index("ix_segments_session_id_end_offset", "session_id", "end_offset"),
    )


class Event(Base):
    """Outbox and history: written in the transaction that makes the change."""

    __tablename__ = "events"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    transaction: Mapped[int] = mapped_column(BigInteger, server_default=text("event_order()"))
    """Readers go by (transaction, position) below every transaction that runs: `models.feed` says why."""
    event_type: Mapped[str]
    owner: Mapped[str]
    session_id: Mapped[UUID | None]
    """No foreign key: events outlive their session."""
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    actor: Mapped[str]
    request_id: Mapped[str | None]
    at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    dead: Mapped[str | None]
    """Why it went to the dead letters of NATS instead."""

    __table_args__ = (
        Index("ix_events_unpublished", "transaction", "position", postgresql_where=text("published_at IS NULL")),
        Index("ix_events_order", "transaction", "position"),
        Index("ix_events_owner_order", "owner", "transaction", "position"),
        Index("ix_events_session_id", "session_id", "transaction", "position"),
    )


class EventClock(Base):
    """One row: what is added to the server's count of transactions, so that events stay in order over a restore."""

    __tablename__ = "event_clock"

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    shift: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    __table_args__ = (CheckConstraint("one", name="one"),)


class MirrorState(Base):
    """One row: how the mirror is, as it said itself."""

    __tablename__ = "mirror_state"

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    at: Mapped[datetime]
    trouble: Mapped[str | None]
    """What is wrong, in words; None: nothing."""
    published_per_second: Mapped[float] = mapped_column(server_default=text("0"))
    """Events, between the last two times it said something."""
    notes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """What an operator should know though it works: streams that are configured otherwise."""

    __table_args__ = (CheckConstraint("one", name="one"),)


class MirroredOutput(Base):
    """How far the output of a session has been mirrored, as long as there may be more."""

    __tablename__ = "mirrored_output"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class ApiKey(Base):
    """Keys kept in the database, hash only. Keys of the environment (API_KEYS) are not here."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    """sha256 of the whole key as it is presented."""
    generation: Mapped[int] = mapped_column(server_default=text("1"))
    """How many secrets it has had: whoever came in with an older one goes when that one ends."""
    previous_hash: Mapped[bytes | None]
    previous_expires_at: Mapped[datetime | None]
    """Until when the secret before the last rotation is taken, too."""
    name: Mapped[str]
    owner: Mapped[str]
    permissions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    rate_limits: Mapped[dict[str, str]] = mapped_column(server_default=text("'{}'"))
    max_sessions: Mapped[int | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    rotated_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_api_keys_owner", "owner"),
        # Sessions are counted by the name of the key that made them.
        Index("ix_api_keys_live_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    )


class Ticket(Base):
    """A key's leave to open one stream of one session, once, soon. Deleted by whoever uses it."""

    __tablename__ = "tickets"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    """sha256 of the ticket."""
    session_id: Mapped[UUID]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    key_id: Mapped[UUID | None]
    """None: a key of the environment, known by its name."""
    key_name: Mapped[str]
    generation: Mapped[int]
    expires_at: Mapped[datetime]

    __table_args__ = (Index("ix_tickets_expires_at", "expires_at"),)


class AuditRow(Base):
    """Who did what, and how it went. Sealed into a hash chain afterwards by housekeeping."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    key_id: Mapped[UUID | None]
    """Names may be given again when a key is gone; None: a key of the environment, or nobody known."""
    owner: Mapped[str | None]
    action: Mapped[str]
    target: Mapped[str | None]
    outcome: Mapped[str]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    detail: Mapped[dict[str, Any] | None]
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Its place in the chain: 1, 2, 3 … without holes, in the order of ids, which may have some (rolled back)."""
    seal: Mapped[bytes | None]

    __table_args__ = (
        Index("ix_audit_at", "at"),
        Index("ix_audit_actor_id", "actor", "id"),
        Index("ix_audit_target_id", "target", "id", postgresql_where=text("target IS NOT NULL")),
        Index("ix_audit_position", "position", unique=True, postgresql_where=text("position IS NOT NULL")),
        Index("ix_audit_unsealed", "id", postgresql_where=text("seal IS NULL")),
    )


class AuditAnchor(Base):
    """A point of the audit chain that stays when the rows before it are removed. The last one is the chain's head."""

    __tablename__ = "audit_anchors"

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    audit_id: Mapped[int] = mapped_column(BigInteger)
    seal: Mapped[bytes]
    cut: Mapped[bool]
    """Whether the rows up to here were removed by retention."""
    sealed_at: Mapped[datetime]


class KeptAnswer(Base):
    """The answer to a request with an idempotency key, for a day: a repeat gets it again."""

    __tablename__ = "kept_answers"

    scope: Mapped[str] = mapped_column(primary_key=True)
    """The API key's identity: another key's idempotency keys are others."""
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    """sha256 of what was asked for."""
    status: Mapped[int]
    body: Mapped[str]
    headers: Mapped[dict[str, str]]
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_kept_answers_created_at", "created_at"),)


class HousekeepingRun(Base):
    """When each kind of housekeeping last ran: a gap says that the database, or housekeeping itself, was away."""

    __tablename__ = "housekeeping"

    name: Mapped[str] = mapped_column(primary_key=True)
    ran_at: Mapped[datetime]
    spared_until: Mapped[datetime | None]
    """Nobody is declared lost before this: whoever was away may have missed renewals that were not missing."""
    runs: Mapped[int] = mapped_column(Integer, server_default=text("0"))


DELIVERY_STATES = ("pending", "delivered", "dead")


class Webhook(Base):
    """An address that an owner's events are sent to. Whoever writes to one, or to its queue, locks this row first."""

    __tablename__ = "webhooks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str | None]
    """Why the service itself switched it off."""
    secret: Mapped[bytes] = mapped_column(deferred=True)
    """What deliveries are signed with: as it is, for a hash signs nothing. Shown once, when it is made."""
    previous_secret: Mapped[bytes | None] = mapped_column(deferred=True)
    previous_until: Mapped[datetime | None]
    """Until when deliveries are signed with the secret before the last change, too."""
    since_transaction: Mapped[int] = mapped_column(BigInteger)
    since_position: Mapped[int] = mapped_column(BigInteger)
    """Events up to here are not for it: they were before it was made, or while it was off."""
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    """How many attempts failed since the last that did not. More than none: one at a time, until one succeeds."""
    proven: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether its last attempt succeeded, and soon. Those of which that cannot be said share a part of the places."""
    resting_until: Mapped[datetime | None]
    """The receiver asked for a pause."""
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    updated_at: Mapped[datetime]

    __table_args__ = (Index("ix_webhooks_owner_id", "owner", "id"),)


class WebhookDelivery(Base):
    """One event for one webhook: what is waiting, and what became of it."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    lane: Mapped[UUID]
    """What it keeps its order among: its session, or all that is of none; a ping is alone."""
    event_id: Mapped[UUID]
    """No foreign key: a ping is no event, and events have a retention of their own."""
    event_type: Mapped[str]
    session_id: Mapped[UUID | None]
    transaction: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    queued_at: Mapped[datetime]
    """From here on the time runs after which it is given up."""
    tried_at: Mapped[datetime | None]
    response_status: Mapped[int | None]
    error: Mapped[str | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(_one_of("status", DELIVERY_STATES), name="status"),
        Index("ix_webhook_deliveries_webhook_id_event_id", "webhook_id", "event_id", unique=True),
        Index("ix_webhook_deliveries_log", "webhook_id", "id"),
        Index(
            "ix_webhook_deliveries_pending",
            *("webhook_id", "lane", "transaction", "position"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_webhook_deliveries_queued_at", "queued_at"),
    )


class WebhookLane(Base):
    """One session's waiting deliveries to one webhook: claimed as a whole, so that no two are under way at once."""

    __tablename__ = "webhook_lanes"

    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True)
    lane: Mapped[UUID] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    claim: Mapped[UUID | None]
    claimed_until: Mapped[datetime | None]
    """A lease: whoever claimed it and was killed holds it up no longer than that."""

    __table_args__ = (
        Index("ix_webhook_lanes_due", "webhook_id", "due_at"),
        Index("ix_webhook_lanes_claimed", "webhook_id", postgresql_where=text("claim IS NOT NULL")),
    )


class WebhookCursor(Base):
    """One row: up to where events have been put into webhooks' queues."""

    __tablename__ = "webhook_cursor"

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    transaction: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (CheckConstraint("one", name="one"),)
