"""Input of several clients to several sessions in one statement: numbers, rows, events and audit rows.

Only the plain case: the session is there, takes input, and nobody else holds its row. What is left out is accepted, or
refused with the right words, by `models.inputs` in a transaction of its own: nobody's input waits for another session's lock.
"""

# ruff: noqa: S608  (the names are ours)
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from core.ids import uuid7
from core.programs import CONVERSATIONS
from models import audit
from models.events import EventKind
from models.inputs import Accepted, Bell, Kind
from models.lifecycle import LIVE, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from models.audit import Deed
    from models.events import Origin

    Rows = Callable[[str, Mapping[str, Any]], Sequence[Any]]

CONVERSING: Final = ", ".join(f"'{name}'" for name in CONVERSATIONS)
TAKING: Final = ", ".join(f"'{status}'" for status in sorted(LIVE - {Status.TERMINATING}))

# Rows that somebody holds are skipped, not waited for. The numbers of several inputs to one session follow their turns.
_WRITE: Final = f"""
    WITH {audit.MINE}, wanted AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(%(letters)s) AS wanted(
            turn int, id uuid, event_id uuid, session_id uuid, owner text, body text, body_at_terminal text,
            said text, mode text, metadata jsonb, actor text, request_id text, at timestamptz, deed jsonb
        )
    ), held AS MATERIALIZED (
        SELECT id AS session_id, owner AS of_owner, worker, last_input_seq, terminal IS NOT NULL AS at_terminal,
            program IN ({CONVERSING}) AS converses
        FROM sessions WHERE id = ANY(CAST(%(ids)s AS uuid[])) AND status IN ({TAKING})
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    ), taken AS MATERIALIZED (
        SELECT *, last_input_seq + row_number() OVER (PARTITION BY session_id ORDER BY turn) AS input_seq,
            convert_to(CASE WHEN converses THEN said WHEN at_terminal THEN body_at_terminal ELSE body END, 'UTF8') AS bytes,
            CASE WHEN mode <> 'queue' THEN jsonb_build_object('mode', mode) END AS detail
        FROM wanted JOIN held USING (session_id)
        WHERE (owner = of_owner) IS NOT FALSE AND (body_at_terminal IS NOT NULL OR NOT at_terminal)
            AND CASE WHEN converses THEN said ~ '[^[:space:]]' ELSE mode = 'queue' END
    ), numbered AS (
        UPDATE sessions SET last_input_seq = last.input_seq, last_activity_at = GREATEST(last_activity_at, last.at)
        FROM (SELECT session_id, max(input_seq) AS input_seq, max(at) AS at FROM taken GROUP BY session_id) AS last
        WHERE sessions.id = last.session_id
    ), written AS (
        INSERT INTO inputs (session_id, input_seq, id, kind, body, detail, metadata, actor, request_id, created_at)
        SELECT session_id, input_seq, id, '{Kind.INPUT}', bytes, detail, metadata, actor, request_id, at FROM taken
        RETURNING id
    ), told AS (
        INSERT INTO events (id, event_type, owner, session_id, payload, actor, request_id, at)
        SELECT event_id, '{EventKind.SESSION_INPUT}', of_owner, session_id, jsonb_build_object(
            'input_id', id, 'input_seq', input_seq, 'kind', '{Kind.INPUT}', 'bytes', length(bytes)
        ), actor, request_id, at
        FROM taken ORDER BY turn
    ), noted AS (
        INSERT INTO audit ({audit.COLUMNS})
        SELECT {audit.OF_DEED} FROM mine CROSS JOIN written JOIN taken USING (id)
            CROSS JOIN LATERAL jsonb_to_record(taken.deed) AS {audit.DEED}
        ORDER BY taken.turn
    )
    SELECT taken.id, input_seq, worker, node FROM taken LEFT JOIN workers ON workers.incarnation = taken.worker
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """Input for one session. `owner` None: whosever it is.

    `body_at_terminal`: what is written if it has a terminal; None: that takes no such line. `said`: what is said to a program that
    converses, `mode`: how.
    """

    id: UUID
    session_id: UUID
    owner: str | None
    body: str
    body_at_terminal: str | None
    said: str
    mode: str
    metadata: dict[str, Any] | None
    origin: Origin
    at: datetime
    deed: Deed


def accept_all(rows: Rows, letters: Sequence[Letter]) -> dict[UUID, Accepted]:
    """Accept letters, and return what became of each by its id. One that is missing is for `models.inputs`.

    `rows` sends statements together and returns the rows of the last.
    """
    wanted = [_members(turn, letter) for turn, letter in enumerate(letters)]
    ids = {str(letter.session_id) for letter in letters}
    values = {"letters": orjson.dumps(wanted).decode(), "ids": list(ids)}
    sessions = {letter.id: letter.session_id for letter in letters}
    return {
        input_id: Accepted(input_id, input_seq, Bell(sessions[input_id], node, worker))
        for input_id, input_seq, worker, node in rows(_WRITE, values)
    }


def _members(turn: int, letter: Letter) -> dict[str, Any]:
    return {
        "turn": turn,
        "id": letter.id,
        "event_id": uuid7(),
        "session_id": letter.session_id,
        "owner": letter.owner,
        "body": letter.body,
        "body_at_terminal": letter.body_at_terminal,
        "said": letter.said,
        "mode": letter.mode,
        "metadata": letter.metadata,
        "actor": letter.origin.actor,
        "request_id": letter.origin.request_id,
        "at": letter.at,
        "deed": letter.deed,
    }
