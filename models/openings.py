"""Opening sessions: row, event and audit row of one or of many, with the caps checked, in one trip.

Creations take turns on an advisory lock, so that a cap is exact under concurrency. The lock is a statement of its own: what its
last holder has committed is seen only by a later one. All of it is sent at once and is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import orjson

from core.errors import TooManySessions
from core.ids import uuid7
from models import audit
from models.backlog import PLACES
from models.events import EventKind
from models.glances import COLUMNS, Glance
from models.lifecycle import LIVE, Status
from models.tables import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from models.audit import Deed
    from models.database import Transaction

    Rows = Callable[[str, Mapping[str, Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client asked for, checked. `owner` and `created_by` come from the key, never from the body."""

    owner: str
    created_by: str
    program: str
    query: str
    timeout_seconds: int
    user_id: str | None = None
    requested_directory: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    terminal: dict[str, Any] | None = None
    priority: str = "normal"
    idle_timeout_seconds: int | None = None
    """Without output and input; None: as long as it likes."""
    request_id: str | None = None
    program_options: dict[str, Any] | None = None
    resumed_from: UUID | None = None
    fork_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """How many sessions may be live at once: in all, of one owner, of one key. None: no cap."""

    total: int | None
    per_owner: int | None = None
    per_key: int | None = None


NO_CAPS: Final = Caps(None)
CAP_LOCK: Final = 0x6A656C6D
LIVE_NAMES: Final = ", ".join(f"'{status}'" for status in sorted(LIVE))

# All that are wanted have a turn. One that is refused has had its turn all the same, so the next one may be refused without need:
# who is refused behind another one is asked once more (app/together.py).
# ruff: noqa: S608  (the names are ours)
_WRITE: Final = f"""
    WITH {audit.MINE}, wanted AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(%(openings)s) AS wanted(
            turn int, id uuid, event_id uuid, owner text, created_by text, user_id text, program text, query text,
            requested_directory text, metadata jsonb, env jsonb, terminal jsonb, priority text, timeout_seconds int,
            idle_timeout_seconds int, request_id text, program_options jsonb, resumed_from uuid, fork_of uuid,
            at timestamptz, total int, per_owner int, per_key int, deed jsonb
        )
    ), admitted AS MATERIALIZED (
        SELECT *,
            CASE WHEN total IS NOT NULL THEN (
                SELECT count(*) FROM sessions WHERE status IN ({LIVE_NAMES})
            ) + row_number() OVER (ORDER BY turn) END AS in_all,
            CASE WHEN per_owner IS NOT NULL THEN (
                SELECT count(*) FROM sessions WHERE status IN ({LIVE_NAMES}) AND owner = wanted.owner
            ) + row_number() OVER (PARTITION BY owner ORDER BY turn) END AS of_owner,
            CASE WHEN per_key IS NOT NULL THEN (
                SELECT count(*) FROM sessions WHERE status IN ({LIVE_NAMES}) AND created_by = wanted.created_by
            ) + row_number() OVER (PARTITION BY created_by ORDER BY turn) END AS of_key
        FROM wanted
    ), opened AS (
        INSERT INTO sessions (id, owner, created_by, user_id, program, query, requested_directory, current_directory,
            metadata, env, terminal, priority, timeout_seconds, idle_timeout_seconds, request_id,
            program_options, resumed_from, fork_of, status, attempt, sends, sent_at, created_at, updated_at, last_activity_at)
        -- sent_at is compared with the database's clock, whatever the web process's says
        SELECT id, owner, created_by, user_id, program, query, requested_directory, requested_directory,
            metadata, env, terminal, priority, timeout_seconds, idle_timeout_seconds, request_id,
            program_options, resumed_from, fork_of, '{Status.INITIALIZING}', 1, 1, clock_timestamp(), at, at, at
        FROM admitted
        WHERE (in_all <= total) IS NOT FALSE AND (of_owner <= per_owner) IS NOT FALSE AND (of_key <= per_key) IS NOT FALSE
        ORDER BY turn
        RETURNING id
    ), told AS (
        INSERT INTO events (id, event_type, owner, session_id, payload, actor, request_id, at)
        SELECT event_id, '{EventKind.SESSION_CREATED}', owner, id, jsonb_build_object(
            'query', query, 'user_id', user_id, 'created_by', created_by, 'program', program
        ), created_by, request_id, at
        FROM opened JOIN wanted USING (id) ORDER BY turn
    )
    INSERT INTO audit ({audit.COLUMNS})
    SELECT {audit.OF_DEED} FROM mine CROSS JOIN opened JOIN wanted USING (id)
        CROSS JOIN LATERAL jsonb_to_record(wanted.deed) AS {audit.DEED}
    WHERE wanted.deed IS NOT NULL
    ORDER BY wanted.turn;
"""
_LOCK: Final = f"SELECT pg_advisory_xact_lock({CAP_LOCK});"
_PLACES: Final = PLACES.format(ids="%(ids)s")
_NEW: Final = tuple(each.name for each in fields(NewSession))
_CAPS: Final = tuple(each.name for each in fields(Caps))
_ZERO: Final = ("fence", "last_input_seq", "last_seq", "output_bytes")
_NOTHING_YET: Final = {
    **dict.fromkeys(COLUMNS),
    **dict.fromkeys(_ZERO, 0),
    "status": Status.INITIALIZING,
    "attempt": 1,
    "sends": 1,
}
"""A session's members before anything has happened to it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A session that is to be opened. `deed`: its audit row, if there is to be one."""

    new: NewSession
    caps: Caps
    at: datetime
    deed: Deed | None = None
    id: UUID = field(default_factory=uuid7)


def open_session(tx: Transaction, new: NewSession, caps: Caps, *, at: datetime) -> Session:
    """Open a session, without an audit row. Raises TooManySessions where a cap is reached."""
    opening = Opening(new, caps, at)
    open_within(tx, opening)
    session = tx.get(Session, opening.id)
    assert session is not None
    return session


def open_within(tx: Transaction, opening: Opening) -> int:
    """Open a session in a transaction that does more than that; return its place in the queue. Raises TooManySessions."""
    place = open_all(partial(_within, tx), [opening]).get(opening.id)
    if place is None:
        raise TooManySessions
    return place


def open_all(rows: Rows, openings: Sequence[Opening]) -> dict[UUID, int]:
    """Open sessions, and return the place of each in the queue. One that is missing was refused for a cap.

    `rows` sends statements together and returns the rows of the last.
    """
    wanted = [_members(turn, opening) for turn, opening in enumerate(openings)]
    values = {"openings": orjson.dumps(wanted).decode(), "ids": [str(opening.id) for opening in openings]}
    lock = _LOCK if any(opening.caps != NO_CAPS for opening in openings) else ""
    return {UUID(str(session_id)): place for session_id, place in rows(lock + _WRITE + _PLACES, values)}


def _within(tx: Transaction, statements: str, values: Mapping[str, Any]) -> Sequence[Any]:
    return tx.connection().exec_driver_sql(statements, dict(values)).all()


def glance(opening: Opening) -> Session:
    """Return a session as it is when it has been opened."""
    new, at = opening.new, opening.at
    return cast(
        "Session",
        Glance(
            **_NOTHING_YET
            | {
                "id": opening.id,
                "owner": new.owner,
                "created_by": new.created_by,
                "user_id": new.user_id,
                "program": new.program,
                "query": new.query,
                "requested_directory": new.requested_directory,
                "current_directory": new.requested_directory,
                "metadata_": new.metadata,
                "terminal": new.terminal,
                "priority": new.priority,
                "timeout_seconds": new.timeout_seconds,
                "idle_timeout_seconds": new.idle_timeout_seconds,
                "request_id": new.request_id,
                "program_options": new.program_options,
                "resumed_from": new.resumed_from,
                "fork_of": new.fork_of,
                "created_at": at,
                "updated_at": at,
                "last_activity_at": at,
            }
        ),
    )


def _members(turn: int, opening: Opening) -> dict[str, Any]:
    return {
        **{name: getattr(opening.new, name) for name in _NEW},
        **{name: getattr(opening.caps, name) for name in _CAPS},
        "turn": turn,
        "id": opening.id,
        "event_id": uuid7(),
        "at": opening.at,
        "deed": opening.deed,
    }
