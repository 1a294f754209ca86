"""The mailbox of a session: what clients ask of a live process, as rows in the order it was accepted.

A row is durable and numbered before the client has its answer. Bells (`tasks.queue`) only say "look". Whether a row was
written is decided by the holder's memory while the holder lives; the states here tell others.

Longer than other modules because both sides of one table stand in it: what clients ask and see, and what the holder takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import func, insert, select, text, update

from core.errors import SessionEnded, SessionEnding, SessionNotFound
from core.ids import uuid7
from models import outbox
from models.events import EventKind, NewEvent, Origin
from models.lifecycle import FINAL, Status
from models.tables import Input, Session, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Table

    from models.database import Transaction


class Kind(StrEnum):
    """What a row asks for."""

    INPUT = "input"
    EOF = "eof"
    RESIZE = "resize"
    SIGNAL = "signal"
    INTERRUPT = "interrupt"
    EXTEND = "extend"
    STOP = "stop"
    ANSWER = "answer"


INPUTS: Final = cast("Table", Input.__table__)  # through the class an insert takes three times as long
ORDERED: Final = frozenset({Kind.INPUT, Kind.EOF, Kind.RESIZE})
"""Kinds that keep their place behind input the program has not read yet; the others go at once."""


class State(StrEnum):
    """How far a row has come."""

    ACCEPTED = "accepted"
    WRITING = "writing"
    WRITTEN = "written"
    ANSWERED = "answered"
    """The program has said what it has to say to it."""
    INTERRUPTED = "interrupted"
    """The program began to answer, and did not come to an end."""
    FAILED = "failed"
    UNKNOWN = "unknown"


FOLLOWING: Final = frozenset({State.ANSWERED, State.INTERRUPTED})
"""What comes behind `written`: when it was written, and where the output stood then, is kept."""


@dataclass(frozen=True, slots=True)
class NewInput:
    """A row before it has a number. `body` is exactly what the process gets."""

    kind: Kind
    body: bytes = b""
    detail: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Bell:
    """Whom to tell to look: the holder's Celery node and incarnation. Both None while nobody holds the session."""

    session_id: UUID
    node: str | None
    incarnation: UUID | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to an input: its identity, and whom to ring."""

    input_id: UUID
    input_seq: int
    bell: Bell


@dataclass(frozen=True, slots=True)
class Want:
    """What a holder asks the mailbox of one session: rows above what it has seen. `room` 0: no ordered kinds now."""

    session_id: UUID
    fence: int
    after_ordered: int
    after_urgent: int
    room: int


@dataclass(frozen=True, slots=True)
class Mail:
    """A row as the holder gets it."""

    session_id: UUID
    input_seq: int
    input_id: UUID
    kind: Kind
    body: bytes
    detail: dict[str, Any]
    actor: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a row. `output_offset`: how much output there was when it was written."""

    session_id: UUID
    input_seq: int
    state: State
    at: datetime
    reason: str | None = None
    output_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as clients see it. `size`: bytes of its body, which is not shown: people type secrets."""

    input_id: UUID
    input_seq: int
    kind: Kind
    state: State
    reason: str | None
    size: int
    detail: dict[str, Any] | None
    metadata: dict[str, Any] | None
    output_offset: int | None
    actor: str
    created_at: datetime
    written_at: datetime | None


def open_mailbox(tx: Transaction, session_id: UUID, owner: str | None, *, at: datetime) -> Session:
    """Return a session that takes rows, its own row locked. Raises SessionNotFound, SessionEnding or SessionEnded."""
    wanted = select(Session).where(Session.id == session_id).with_for_update(key_share=True)
    if owner is not None:
        wanted = wanted.where(Session.owner == owner)
    session = tx.scalar(wanted)
    if session is None:
        raise SessionNotFound
    if session.status in FINAL:
        raise SessionEnded
    if session.status == Status.TERMINATING:
        raise SessionEnding
    session.last_activity_at = max(session.last_activity_at, at)
    return session


def accept(tx: Transaction, session: Session, new: NewInput, origin: Origin, *, at: datetime) -> Accepted:
    """Number and write a client's row, into a mailbox that was opened in the same transaction."""
    row = append(tx, session, new, origin, at=at)
    payload = {
        "input_id": str(row.input_id),
        "input_seq": row.input_seq,
        "kind": new.kind,
        "bytes": len(new.body),
    }
    outbox.add(tx, NewEvent(EventKind.SESSION_INPUT, session.owner, at, origin, session.id, payload))
    return row


def append(tx: Transaction, session: Session, new: NewInput, origin: Origin, *, at: datetime) -> Accepted:
    """Write a row into the mailbox of a locked session, whatever its status."""
    session.last_input_seq += 1
    input_id = uuid7()
    tx.execute(
        insert(INPUTS),
        {
            "session_id": session.id,
            "input_seq": session.last_input_seq,
            "id": input_id,
            "kind": new.kind,
            "body": new.body,
            "detail": new.detail,
            "metadata": new.metadata,
            "actor": origin.actor,
            "request_id": origin.request_id,
            "created_at": at,
        },
    )
    return Accepted(input_id, session.last_input_seq, bell_of(tx, session))


def bell_of(tx: Transaction, session: Session) -> Bell:
    """Return whom to tell to look at a session."""
    if session.worker is None:
        return Bell(session.id, None, None)
    node = tx.scalar(select(Worker.node).where(Worker.incarnation == session.worker))
    return Bell(session.id, node, session.worker)


def state_of(tx: Transaction, session_id: UUID, input_seq: int) -> tuple[State, str | None]:
    """Return how far a row has come, and why not further."""
    found = select(Input.state, Input.reason).where(Input.session_id == session_id, Input.input_seq == input_seq)
    state, reason = tx.execute(found).one()
    return State(state), reason


def listing(tx: Transaction, session_id: UUID, *, after: int, limit: int) -> list[Shown]:
    """Return what was asked of a session behind row `after`, in order."""
    columns = (
        *(Input.id, Input.input_seq, Input.kind, Input.state, Input.reason, func.length(Input.body), Input.detail),
        *(Input.metadata_, Input.output_offset, Input.actor, Input.created_at, Input.written_at),
    )
    wanted = select(*columns).where(Input.session_id == session_id, Input.input_seq > after)
    rows = tx.execute(wanted.order_by(Input.input_seq).limit(limit))
    return [Shown(row[0], row[1], Kind(row[2]), State(row[3]), *row[4:]) for row in rows]


def resizes(tx: Transaction, session_id: UUID) -> Sequence[Row[tuple[int, datetime, dict[str, Any]]]]:
    """Return (output_offset, written_at, detail) of every resize that was carried out, in order."""
    columns = select(Input.output_offset, Input.written_at, Input.detail)
    done = (Input.session_id == session_id) & (Input.kind == Kind.RESIZE) & (Input.state == State.WRITTEN)
    return tx.execute(columns.where(done, Input.output_offset.is_not(None)).order_by(Input.input_seq)).all()


# Fetch and mark in one statement, joined on the fence: a holder that lost its session gets nothing.
# The holder's memory (after_ordered, after_urgent) decides what is new, so that a commit whose reply was lost is
# simply asked for again.
_FETCH = text("""
    WITH want AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:fences AS bigint[]),
            CAST(:ordered AS bigint[]), CAST(:urgent AS bigint[]), CAST(:rooms AS bigint[])
        ) AS want(session_id, fence, after_ordered, after_urgent, room)
    ), mine AS (
        SELECT want.* FROM want JOIN sessions ON sessions.id = want.session_id
            AND sessions.fence = want.fence AND sessions.worker = :incarnation AND sessions.ended_at IS NULL
    ), chosen AS (
        SELECT i.session_id, i.input_seq FROM mine CROSS JOIN LATERAL (
            SELECT session_id, input_seq FROM inputs
            WHERE inputs.session_id = mine.session_id AND state IN ('accepted', 'writing')
              AND kind IN ('input', 'eof', 'resize') AND input_seq > mine.after_ordered
            ORDER BY input_seq LIMIT mine.room
        ) AS i
        UNION ALL
        SELECT i.session_id, i.input_seq FROM mine CROSS JOIN LATERAL (
            SELECT session_id, input_seq FROM inputs
            WHERE inputs.session_id = mine.session_id AND state IN ('accepted', 'writing')
              AND kind NOT IN ('input', 'eof', 'resize') AND input_seq > mine.after_urgent
            ORDER BY input_seq LIMIT 100
        ) AS i
    )
    UPDATE inputs SET state = 'writing' FROM chosen
    WHERE inputs.session_id = chosen.session_id AND inputs.input_seq = chosen.input_seq
      AND inputs.state IN ('accepted', 'writing')  -- looked at again after waiting for the transaction of the end
    RETURNING inputs.session_id, inputs.input_seq, inputs.id, inputs.kind, inputs.body, inputs.detail,
              inputs.actor, inputs.request_id
""")


def fetch(tx: Transaction, incarnation: UUID, wants: Sequence[Want]) -> list[Mail]:
    """Return the holder's new rows of all the sessions asked for, each session's in order, and mark them `writing`."""
    rows = tx.execute(
        _FETCH,
        {
            "incarnation": incarnation,
            "ids": [want.session_id for want in wants],
            "fences": [want.fence for want in wants],
            "ordered": [want.after_ordered for want in wants],
            "urgent": [want.after_urgent for want in wants],
            "rooms": [want.room for want in wants],
        },
    )
    mail = [
        Mail(
            row.session_id,
            row.input_seq,
            row.id,
            Kind(row.kind),
            bytes(row.body),
            row.detail or {},
            row.actor,
            row.request_id,
        )
        for row in rows
    ]
    return sorted(mail, key=lambda letter: (letter.session_id, letter.input_seq))


_REPORT = text("""
    UPDATE inputs SET state = told.state, reason = told.reason,
        output_offset = COALESCE(told.output_offset, inputs.output_offset),
        written_at = COALESCE(told.written_at, inputs.written_at)
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:seqs AS bigint[]), CAST(:states AS text[]), CAST(:reasons AS text[]),
        CAST(:offsets AS bigint[]), CAST(:ats AS timestamptz[])
    ) AS told(session_id, input_seq, state, reason, output_offset, written_at)
    WHERE inputs.session_id = told.session_id AND inputs.input_seq = told.input_seq
""")


def report(tx: Transaction, deliveries: Sequence[Delivery]) -> None:
    """Write what became of rows, in one statement. Of several reports of one row the last says how far it came."""
    told: dict[tuple[UUID, int], tuple[State, str | None, int | None, datetime | None]] = {}
    for delivery in deliveries:
        row = (delivery.session_id, delivery.input_seq)
        offset, written_at = told[row][2:] if row in told else (None, None)
        if delivery.state not in FOLLOWING:
            offset = delivery.output_offset
        if delivery.state is State.WRITTEN:
            written_at = delivery.at
        told[row] = (delivery.state, delivery.reason, offset, written_at)
    if told:
        tx.execute(
            _REPORT,
            {
                "ids": [session_id for session_id, _ in told],
                "seqs": [input_seq for _, input_seq in told],
                "states": [str(state) for state, *_ in told.values()],
                "reasons": [reason for _, reason, *_ in told.values()],
                "offsets": [offset for *_, offset, _ in told.values()],
                "ats": [written_at for *_, written_at in told.values()],
            },
        )


def close(tx: Transaction, session_id: UUID, *, reason: str, holder_alive: bool) -> None:
    """End the rows nobody wrote. Of a dead holder's rows in `writing` nobody can say whether the process got them."""
    undelivered = update(Input).where(Input.session_id == session_id)
    if not holder_alive:
        tx.execute(undelivered.where(Input.state == State.WRITING).values(state=State.UNKNOWN, reason=reason))
    unwritten = undelivered.where(Input.state.in_((State.ACCEPTED, State.WRITING)), Input.kind.in_(ORDERED))
    tx.execute(unwritten.values(state=State.FAILED, reason=reason))
    # Whatever else was asked of it (a stop above all) came true with the end.
    tx.execute(undelivered.where(Input.state.in_((State.ACCEPTED, State.WRITING))).values(state=State.WRITTEN))


def offer_again(tx: Transaction, session_id: UUID) -> None:
    """Let the next holder send what was not answered: for programs that take no input twice, known by its id."""
    unanswered = update(Input).where(Input.session_id == session_id, Input.kind.in_((Kind.INPUT, Kind.EOF)))
    tx.execute(unanswered.where(Input.state.in_((State.WRITING, State.WRITTEN))).values(state=State.ACCEPTED))


def lose(tx: Transaction, session_id: UUID) -> None:
    """Note that nobody can say whether rows in `writing` reached the process: its holder is lost, and it begins again."""
    writing = update(Input).where(Input.session_id == session_id, Input.state == State.WRITING)
    tx.execute(writing.values(state=State.UNKNOWN, reason="worker_lost"))
