"""Going on with the conversation of a session that has ended, in a new one."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from app import request_id
from app.api.root import blueprint
from app.api.schemas import ResumeRequest
from app.api.sessions import opened
from app.auth import current_caller, requires
from app.bodies import read_body
from app.conversations import checked_options, converses
from app.idempotency import once
from app.keyring import Permission
from app.limits import limited
from app.web import current_web
from core.errors import SessionNotEnded, UnknownProgram
from models import sessions
from models.openings import NewSession

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from app.idempotency import Effect
    from app.web import Web
    from models.database import Transaction
    from models.tables import Session


@blueprint.post("/sessions/<session_id:session_id>/resume")
@requires(Permission.WRITE)
@limited("session_creation")
def resume_session(session_id: UUID) -> ResponseReturnValue:
    """Open a session that goes on with the conversation of one that has ended. That one stays as it is."""
    wanted = read_body(ResumeRequest)
    return once(f"POST sessions/{session_id}/resume", wanted, partial(_resume, current_web(), session_id, wanted))


def _resume(web: Web, session_id: UUID, wanted: ResumeRequest, tx: Transaction | None) -> Effect:
    with nullcontext(tx) if tx is not None else web.database.transaction() as own:
        before = sessions.visible(own, session_id, current_caller().sees)
        converses(before)
        if before.ended_at is None:
            raise SessionNotEnded
        new = _like(before, wanted, web)
    return opened(web, new, tx)


def _like(before: Session, wanted: ResumeRequest, web: Web) -> NewSession:
    """Return what is opened: as the one before, but for what is asked for otherwise."""
    if before.program not in web.settings.programs_enabled:
        raise UnknownProgram
    caller = current_caller()
    options = before.program_options if wanted.program_options is None else wanted.program_options
    new = NewSession(
        owner=before.owner,
        created_by=caller.key_name,
        program=before.program,
        query=wanted.query,
        timeout_seconds=before.timeout_seconds if wanted.timeout_minutes is None else wanted.timeout_minutes * 60,
        user_id=before.user_id,
        requested_directory=before.requested_directory,
        metadata=before.metadata_ if wanted.metadata is None else wanted.metadata,
        env=wanted.env,
        priority=wanted.priority or before.priority,
        idle_timeout_seconds=before.idle_timeout_seconds,
        request_id=request_id.current(),
        program_options=checked_options(before.program, options, web.settings),
        resumed_from=before.id,
    )
    return (
        new if wanted.idle_timeout_seconds is None else replace(new, idle_timeout_seconds=wanted.idle_timeout_seconds)
    )
