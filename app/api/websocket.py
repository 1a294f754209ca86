"""Following and driving a session over a WebSocket: whether, and from where. What is then said is `app.conversation`'s."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import request

from app.api.answers import Answers
from app.api.root import blueprint
from app.api.streams import Filter
from app.auth import current_caller, requires_key_or_ticket
from app.conversation import Conversation
from app.detached import visit
from app.keyring import Permission
from app.limits import limited
from app.origin import note
from app.positions import start_of
from app.queries import read_query
from app.sockets import NORMAL, Bounds, Socket
from app.upgrade import Opening, websocket
from app.web import current_web
from core.errors import InvalidApiKey
from models import sessions
from streams.ring import Wish, as_nothing, as_text, as_text_base64

if TYPE_CHECKING:
    from wsproto import WSConnection

    from app.detached import Visit
    from app.keyring import Caller
    from app.web import Web
    from core.settings import Settings
    from models.tables import Session

PINGS_MISSED: Final = 3
BURST_SECONDS: Final = 10
"""Pasting is no attack: so many seconds' worth of messages may come at once."""


@websocket(blueprint, "/sessions/<session_id:session_id>/ws")
@requires_key_or_ticket
@limited("websocket")
def open_websocket(session_id: UUID) -> Opening:
    """Open a WebSocket for keys that may read or write; which of the two is looked at for each message."""
    web, caller = current_web(), current_caller()
    wanted = read_query(Filter)
    with web.database.transaction() as tx:
        session = sessions.visible(tx, session_id, caller.sees)
    wish = _wish(web, caller, session, wanted)
    came = visit(web.streams.enter(session, key=caller.identity, holds=False))
    try:
        with web.database.transaction() as tx:
            note(tx, "session.ws", session_id, at=web.clock.at())
    except BaseException:
        came.leave()
        raise
    return Opening(partial(_admit, web, session, wish, came), came.leave)


def _wish(web: Web, caller: Caller, session: Session, wanted: Filter) -> Wish | None:
    """Return where the log is to be followed from; None if nothing is to be told of it."""
    if not caller.may(Permission.READ):  # who only writes is told of the end by the close alone
        return None if session.ended_at else Wish(session.last_seq, kinds=frozenset(), form=as_nothing)
    start = start_of(web.log, session, request.headers, request.args)
    form = as_text_base64 if wanted.as_bytes else as_text
    if start is None:  # who has everything is told of the end once more: a socket has no 204
        return Wish(session.last_seq - 1, kinds=frozenset(), form=form)
    return Wish(start.after, start.skip_to, wanted.kinds, form=form)


def _bounds(settings: Settings) -> Bounds:
    ping, rate = settings.websocket_ping_seconds, settings.websocket_messages_per_second
    return Bounds(ping, PINGS_MISSED * ping, rate, rate * BURST_SECONDS)


def _admit(web: Web, session: Session, wish: Wish | None, came: Visit, fd: int, wire: WSConnection) -> None:
    caller = current_caller()
    reads = caller.may(Permission.READ)
    socket = Socket(web.hub, session.id, wish or Wish(), fd, wire, _bounds(web.settings))
    socket.left = came.left
    watched = came.watched = web.key_watch.enter(caller, socket.cut, partial(socket.refuse, InvalidApiKey()))
    answers = Answers(web, session.id, socket)
    socket.talk = Conversation(socket, watched, answers)
    web.hub.admit(socket, answers.introduction(session) if reads else b"", follows=wish is not None)
    if wish is None:
        socket.close(NORMAL)
