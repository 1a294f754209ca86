"""What is asked of a live session besides input: signal, resize, eof, interrupt, extend. How it is asked is `app.asking`'s."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from app.api.root import blueprint
from app.api.schemas import ExtendRequest, NoMembers, SignalRequest, TerminalSize
from app.asking import Question, ask
from app.auth import requires
from app.bodies import read_body, read_optional_body
from app.keyring import Permission
from app.times import iso
from core.errors import NoTerminal, NotStarted
from models.inputs import Kind, NewInput

if TYPE_CHECKING:
    from datetime import datetime

    from flask.typing import ResponseReturnValue

    from models.tables import Session


@blueprint.post("/sessions/<session_id:session_id>/signal")
@requires(Permission.WRITE)
def send_signal(session_id: UUID) -> ResponseReturnValue:
    """Send a signal: to the foreground of a terminal, else to the program and what it runs."""
    return ask(session_id, signalling(read_body(SignalRequest).signal))


@blueprint.post("/sessions/<session_id:session_id>/interrupt")
@requires(Permission.WRITE)
def interrupt(session_id: UUID) -> ResponseReturnValue:
    """Do what ^C does, at once."""
    read_optional_body(NoMembers)
    return ask(session_id, interrupting())


@blueprint.post("/sessions/<session_id:session_id>/eof")
@requires(Permission.WRITE)
def end_input(session_id: UUID) -> ResponseReturnValue:
    """End the input behind what was sent before. Asked again, it has ended already: 200."""
    read_optional_body(NoMembers)
    return ask(session_id, ending_input())


@blueprint.post("/sessions/<session_id:session_id>/resize")
@requires(Permission.WRITE)
def resize(session_id: UUID) -> ResponseReturnValue:
    """Set the size of a session's terminal, in its place among the input."""
    wanted = read_body(TerminalSize)
    return ask(session_id, resizing(wanted.rows, wanted.cols))


@blueprint.post("/sessions/<session_id:session_id>/extend")
@requires(Permission.WRITE)
def extend(session_id: UUID) -> ResponseReturnValue:
    """Let a session run so many minutes from now; one that has not started, from its start."""
    seconds = read_body(ExtendRequest).timeout_minutes * 60
    expires_at: datetime | None = None

    def note_limit(session: Session, at: datetime) -> None:
        nonlocal expires_at
        if session.started_at is None:
            session.timeout_seconds = seconds
        else:
            expires_at = session.expires_at = at + timedelta(seconds=seconds)

    question = Question(NewInput(Kind.EXTEND, detail={"seconds": seconds}), note_limit)
    body, status = ask(session_id, question)
    return {**body, "expires_at": None if expires_at is None else iso(expires_at)}, status


def signalling(name: str) -> Question:
    """Ask for a signal, by its name without SIG."""
    detail = {"number": int(signal.Signals[f"SIG{name}"]), "name": name}
    return Question(NewInput(Kind.SIGNAL, detail=detail), _need_process)


def interrupting() -> Question:
    """Ask for what ^C does."""
    return Question(NewInput(Kind.INTERRUPT, detail={}), _need_process)


def ending_input() -> Question:
    """Ask for the end of the input."""
    return Question(NewInput(Kind.EOF))


def resizing(rows: int, cols: int) -> Question:
    """Ask for another size of the terminal."""
    size = {"rows": rows, "cols": cols}
    detail: dict[str, object] = {**size}

    def note_size(session: Session, _: datetime) -> None:
        if session.terminal is None:
            raise NoTerminal
        detail["was"] = session.terminal  # a recording begins with the size before the first of these
        session.terminal = size

    return Question(NewInput(Kind.RESIZE, detail=detail), note_size)


def _need_process(session: Session, _: datetime) -> None:
    if session.started_at is None:
        raise NotStarted
