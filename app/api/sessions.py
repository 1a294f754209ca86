"""Sessions: create, show, end."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from flask import request
from pydantic import Field

from app import directories, request_id, stopping
from app.api.root import blueprint
from app.api.schemas import SessionRequest, SessionView
from app.auth import current_caller, requires
from app.bodies import read_body
from app.conversations import branched, checked_options, refused
from app.idempotency import Effect, once
from app.json_answer import JsonAnswer
from app.keyring import Permission
from app.limits import limited
from app.origin import deed
from app.queries import Query, read_query
from app.web import current_web
from core.errors import UnknownProgram
from core.programs import CONVERSATIONS
from models import backlog, sessions
from models.openings import Caps, NewSession, Opening, glance, open_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask.typing import ResponseReturnValue

    from app.web import Web
    from core.settings import Settings
    from models.database import Transaction
    from models.tables import Session


class Termination(Query):
    """DELETE /sessions/{id}. `wait`: seconds."""

    reason: Annotated[str, Field(min_length=1, max_length=1000)] = stopping.USER_TERMINATED
    wait: Annotated[float, Field(ge=0, le=25, allow_inf_nan=False)] = 10.0


@blueprint.post("/sessions")
@requires(Permission.WRITE)
@limited("session_creation")
def create_session() -> ResponseReturnValue:
    """Open a session: the row first, then the message that asks a worker to run it."""
    wanted = read_body(SessionRequest)
    return once("POST sessions", wanted, partial(_open, current_web(), wanted))


@blueprint.get("/sessions/<session_id:session_id>")
@requires(Permission.READ)
def show_session(session_id: UUID) -> ResponseReturnValue:
    """Show one session."""
    web, owner = current_web(), current_caller().sees
    session = web.sight.visible(session_id, owner)
    if not backlog.is_waiting(session):
        return JsonAnswer(SessionView.of(session, None, web.settings.flower_url).as_text())
    with web.database.transaction() as tx:  # its place among those that wait is to be counted
        return shown(tx, [sessions.visible(tx, session_id, owner)])[0]


@blueprint.delete("/sessions/<session_id:session_id>")
@requires(Permission.WRITE)
def terminate_session(session_id: UUID) -> ResponseReturnValue:
    """Ask for a session's end, and wait for it as long as the client wants to."""
    web = current_web()
    wanted = read_query(Termination)
    session = stopping.request(web, session_id, wanted.reason)
    if session.ended_at is None:
        session = stopping.wait_for_end(web, session_id, wanted.wait)
    return stopping.told(session), 200 if session.ended_at else 202


def _open(web: Web, wanted: SessionRequest, tx: Transaction | None) -> Effect:
    new = _spec(wanted, web.settings)
    if new.fork_of is not None:
        with nullcontext(tx) if tx is not None else web.database.transaction() as own:
            branched(own, new.fork_of, current_caller().sees)
    return opened(web, new, tx)


def opened(web: Web, new: NewSession, tx: Transaction | None) -> Effect:
    """Open a session, and have a worker asked to run it. Raises TooManySessions."""
    opening = Opening(new, _caps(web.settings), web.clock.at())
    opening = replace(opening, deed=deed("session.create", opening.id, at=opening.at, detail={"program": new.program}))
    place = web.together.open(opening) if tx is None else open_within(tx, opening)
    start = partial(web.doorbell.start, opening.id, new.priority, request_id=request_id.current())
    location = f"{request.script_root}{request.path.partition('/sessions')[0]}/sessions/{opening.id}"
    return Effect(SessionView.of(glance(opening), place, None).as_text(), 201, {"Location": location}, then=start)


def shown(tx: Transaction, found: Sequence[Session]) -> list[dict[str, Any]]:
    """Show rows, with the places of those that wait."""
    places, flower = backlog.places(tx, found), current_web().settings.flower_url
    return [SessionView.of(session, places.get(session.id), flower).as_json() for session in found]


def _spec(wanted: SessionRequest, settings: Settings) -> NewSession:
    """Complete a request with the defaults, and refuse what this service does not offer."""
    program = wanted.program or settings.default_program
    if program not in settings.programs_enabled:
        raise UnknownProgram(f"There is no program of that name here. Enabled: {', '.join(settings.programs_enabled)}.")
    if wanted.fork_of is not None and program not in CONVERSATIONS:
        raise refused("fork_of", f"the program {program} has no conversations")
    if wanted.current_directory is not None:
        directories.check(wanted.current_directory, settings.session_roots)
    minutes = wanted.timeout_minutes
    caller = current_caller()
    return NewSession(
        owner=caller.owner,
        created_by=caller.key_name,
        program=program,
        query=wanted.query,
        timeout_seconds=settings.session_default_timeout_seconds if minutes is None else minutes * 60,
        user_id=wanted.user_id,
        requested_directory=wanted.current_directory,
        metadata=wanted.metadata,
        env=wanted.env,
        terminal=_terminal(wanted, program, settings),
        priority=wanted.priority,
        idle_timeout_seconds=_idle_timeout(wanted, settings),
        request_id=request_id.current(),
        program_options=checked_options(program, wanted.program_options, settings),
        fork_of=None if wanted.fork_of is None else UUID(wanted.fork_of),
    )


def _terminal(wanted: SessionRequest, program: str, settings: Settings) -> dict[str, Any] | None:
    """Return the terminal that is asked for, or else the one that sessions of this program have."""
    if program in CONVERSATIONS and wanted.terminal is not None:
        raise refused("terminal", f"the program {program} has none: it is spoken with over pipes")
    if wanted.terminal is not None:
        return wanted.terminal.model_dump()
    configured = next((each.terminal for each in settings.programs if each.name == program), None)
    return None if configured is None else dict(configured)


def _idle_timeout(wanted: SessionRequest, settings: Settings) -> int | None:
    if wanted.idle_timeout_seconds is not None:
        return wanted.idle_timeout_seconds
    default = settings.session_idle_timeout_seconds
    return None if default is None else math.ceil(default)


def _caps(settings: Settings) -> Caps:
    return Caps(
        total=settings.max_concurrent_sessions,
        per_owner=settings.max_sessions_per_owner,
        per_key=current_caller().max_sessions,
    )
