"""What is said over one WebSocket: messages are answered one after the other, and the log is sent beside them.

Three greenlets at most. The request's own reads; one answers, for as long as there is something to answer; one follows the log.
Rows of the mailbox are written in the order their messages came in; what then takes a while is waited for beside.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Pool

from app import json_input, stopping
from app.api import messages as said
from app.api.controls import ending_input, interrupting, resizing, signalling
from app.api.inputs import accept_input
from app.api.streams import kinds_named
from app.asking import accept, outcome
from app.auth import current_caller, need
from app.errors import INTERNAL
from app.keyring import Permission
from app.origin import note_refused
from app.outgoing import Gone
from app.positions import start_of
from app.sockets import FAILED, KEY_OVER, NORMAL, NOT_VISIBLE, RESTARTING
from app.times import iso
from core.errors import InvalidApiKey, JelmoreError, MalformedBody, SessionNotFound, ValidationFailed
from models import sessions
from streams import frames
from streams.entries import EntryKind
from streams.followers import Turn, TurningFollower

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from app.api.messages import Message
    from app.asking import Asked, Question
    from app.key_watch import Watched
    from app.sockets import Socket
    from app.web import Web
    from models.tables import Session
    from streams.ring import Wish

log = structlog.get_logger(__name__)

MESSAGES_WAITING: Final = 64
"""More are left in the socket: who sends faster than we answer is slowed down."""
OUTCOMES_AT_ONCE: Final = 16
LEAVING_SECONDS: Final = 10.0
"""How long what was said before the close may still take."""


class Conversation:
    """One socket and one session. `wish` None: the caller may not read, and is sent answers alone."""

    def __init__(self, web: Web, session_id: UUID, socket: Socket, watched: Watched, wish: Wish | None) -> None:
        self._web = web
        self._session_id = session_id
        self._socket = socket
        self._watched = watched
        self._reads = wish is not None
        self._follower = TurningFollower(wish or BLIND)
        self._waiting: deque[str | bytes] = deque()
        self._room = Event()
        self._answering: gevent.Greenlet[None] | None = None
        self._outcomes = Pool(OUTCOMES_AT_ONCE)
