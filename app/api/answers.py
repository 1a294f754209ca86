"""Answers to what is said over one WebSocket: what each message does, and what its sender is told.

Rows of the mailbox are written in the order their messages came in; what then takes a while is waited for beside.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from gevent.pool import Pool
from werkzeug.datastructures import Headers

from app import json_input, stopping
from app.api import messages as said
from app.api.controls import ending_input, interrupting, resizing, signalling
from app.api.inputs import accept_message
from app.api.requests import accept_decision
from app.api.streams import kinds_named
from app.asking import accept, outcome
from app.auth import current_caller, need
from app.errors import INTERNAL
from app.keyring import Permission
from app.origin import note_refused
from app.positions import start_of
from app.sockets import Gone
from app.times import iso
from core.errors import JelmoreError, MalformedBody, SessionNotFound, ValidationFailed
from models import sessions
from streams import frames
from streams.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.api.messages import Message
    from app.asking import Asked, Question
    from app.sockets import Socket
    from app.web import Web
    from models.tables import Session

log = structlog.get_logger(__name__)

OUTCOMES_AT_ONCE: Final = 16
"""Waited for beside each other; who asks for more waits for one of them first."""


class Answers:
    """The answering side of one socket."""

    def __init__(self, web: Web, session_id: UUID, socket: Socket) -> None:
        self._web = web
        self._session_id = session_id
        self._socket = socket
        self._outcomes = Pool(OUTCOMES_AT_ONCE)

    def introduction(self, session: Session) -> bytes:
        """Return what says which session this is: the first message to whoever may read."""
        members = {
            "session_id": str(session.id),
            "status": session.status,
            "program": session.program,
            "terminal": session.terminal,
            "output_size": session.output_bytes,
            "last_seq": session.last_seq,
        }
        return self._message("session_info", members)

    def answer(self, message: str | bytes) -> None:
        """Do what a message asks for, and tell its sender. Raises SessionNotFound, when that is told."""
        value: Any = None
        try:
            if isinstance(message, bytes):
                raise MalformedBody("Messages are text.")  # noqa: TRY301  (told like any other fault)
            value = json_input.parse(message.encode())
            self._do(said.understood(value))
        except JelmoreError as fault:
            self.refuse(fault, said.id_of(value))
            if isinstance(fault, SessionNotFound):
                raise
        except Exception:
            log.exception("a message met an error nobody foresaw", session_id=str(self._session_id))
            self.refuse(JelmoreError(INTERNAL), said.id_of(value))

    def refuse(self, fault: JelmoreError, answered: str | None = None) -> None:
        """Say what is wrong."""
        members: dict[str, Any] = {"error_code": fault.code, "detail": fault.detail}
        if isinstance(fault, ValidationFailed):
            members["errors"] = fault.errors
        self._say("error", members, answered)

    @property
    def are_awaited(self) -> bool:
        """Whether something is still to be answered that takes a while."""
        return len(self._outcomes) > 0

    def settle(self, seconds: float) -> None:
        """Wait until everything that was asked is answered: the end of a session settles it all, a moment later."""
        self._outcomes.join(timeout=seconds)

    def stop_waiting(self) -> None:
        """Wait for no outcomes any more: nobody is there to be told."""
        self._outcomes.kill(block=False)

    def _do(self, message: Message) -> None:
        match message:
            case said.Ping():
                self._say("pong", {}, message.id)
            case said.GetStatus():
                need(Permission.READ)
                session = self._session()
                shown = {"status": session.status, "output_size": session.output_bytes}
                self._say("status_response", shown, message.id)
            case said.Subscribe():
                need(Permission.READ)
                self._subscribe(message)
            case _:
                self._change(message)

    def _session(self) -> Session:
        with self._web.database.transaction() as tx:
            return sessions.visible(tx, self._session_id, current_caller().sees)

    def _subscribe(self, wanted: said.Subscribe) -> None:
        if wanted.after is not None:
            start_of(self._web.log, self._session(), Headers(), {"after": str(wanted.after)})
        names = list(EntryKind) if wanted.events is None else list(dict.fromkeys(wanted.events))
        self._say("subscribed", {"events": [name for name in names if name in set(EntryKind)]}, wanted.id)
        # Nothing comes in between: what follows the answer is as it was asked for.
        self._socket.turn(None if wanted.events is None else kinds_named(wanted.events), wanted.after)

    def _change(self, message: Message) -> None:
        try:
            need(Permission.WRITE)
            match message:
                case said.Input():
                    self._input(message)
                case said.Terminate():
                    reason = message.reason or stopping.USER_TERMINATED
                    ending = stopping.told(stopping.request(self._web, self._session_id, reason))
                    self._say("command_result", {"command": message.type, **ending}, message.id)
                case said.Answer():
                    asked = accept_decision(self._session_id, UUID(message.request_id), message)
                    self._outcomes.spawn(copy_context().run, self._tell_outcome, message, asked)
                case _:
                    asked = accept(self._session_id, _question(message))
                    self._outcomes.spawn(copy_context().run, self._tell_outcome, message, asked)
        except JelmoreError as fault:
            note_refused(f"session.{message.type}", self._session_id, fault.code)
            raise

    def _input(self, message: said.Input) -> None:
        accepted = accept_message(self._session_id, message.as_request(), message.id)
        members = {name: accepted[name] for name in ("input_id", "input_seq")}
        self._say("input_received", members, message.id)

    def _tell_outcome(self, message: Message, asked: Asked) -> None:
        try:
            body, _ = outcome(asked)
            self._say("command_result", {"command": message.type, **body}, message.id)
        except JelmoreError as fault:
            self.refuse(fault, message.id)
        except Exception:
            log.exception("an outcome met an error nobody foresaw", session_id=str(self._session_id))
            self.refuse(JelmoreError(INTERNAL), message.id)

    def _say(self, event: str, members: Mapping[str, Any], answered: str | None = None) -> None:
        """Send an answer; if nobody is there any more, what was asked is done all the same."""
        shown = dict(members) if answered is None else {**members, "id": answered}
        with suppress(Gone):
            self._socket.send(self._message(event, shown))

    def _message(self, event: str, members: Mapping[str, Any]) -> bytes:
        return frames.message(event, {**members, "timestamp": iso(self._web.clock.at())})


def _question(message: Message) -> Question:
    match message:
        case said.Resize():
            return resizing(message.rows, message.cols)
        case said.Signal():
            return signalling(message.signal)
        case said.Interrupt():
            return interrupting()
        case _:
            return ending_input()
