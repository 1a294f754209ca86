"""One open WebSocket and one session: what is said is answered in its order, and the log is sent beside it.

Three greenlets at most. The request's own reads. One answers, for as long as something waits for an answer. One follows the log.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import gevent
import structlog
from gevent.event import Event

from app.errors import INTERNAL
from app.outgoing import Gone
from app.sockets import FAILED, KEY_OVER, NORMAL, NOT_VISIBLE, RESTARTING
from core.errors import InvalidApiKey, JelmoreError, SessionNotFound
from streams.entries import EntryKind

if TYPE_CHECKING:
    from uuid import UUID

    from gevent import Greenlet

    from app.api.answers import Answers
    from app.key_watch import Watched
    from app.sockets import Socket
    from streams.followers import TurningFollower
    from streams.relay import Hub

log = structlog.get_logger(__name__)

WAITING: Final = 64
"""More messages stay in the socket: who sends faster than we answer is slowed down."""
UNREAD_BYTES: Final = 1024 * 1024
"""Who leaves more answers unread is not answered until he reads. A little more than a full look at the log: ^C must get through."""
LEAVING_SECONDS: Final = 15.0
"""How long what was said before the close may still take."""
SETTLE_SECONDS: Final = 2.0
"""How long what was asked before the end may take to be answered behind it."""
OVER: Final = "the key is revoked or has expired"


@dataclass(frozen=True, slots=True)
class Parties:
    """Who takes part. `shows`: whether the log may be sent, or only its end be waited for."""

    socket: Socket
    watched: Watched
    follower: TurningFollower
    answers: Answers
    shows: bool


class Conversation:
    """The greenlets of one socket."""

    def __init__(self, hub: Hub, session_id: UUID, parties: Parties) -> None:
        self._hub = hub
        self._session_id = session_id
        self._socket = parties.socket
        self._watched = parties.watched
        self._follower = parties.follower
        self._answers = parties.answers
        self._shows = parties.shows
        self._waiting: deque[str | bytes] = deque()
        self._room = Event()
        self._answering: Greenlet[None] | None = None

    def hold(self) -> None:
        """Talk until the socket is closed, by whichever side."""
        # If we have closed already, nothing follows in the log.
        following = gevent.spawn(copy_context().run, self._follow) if self._socket.closed is None else None
        try:
            for message in self._socket.messages():
                self._take(message)
        finally:
            self._follower.call()
            self._leave(following)

    def _take(self, message: str | bytes) -> None:
        while len(self._waiting) >= WAITING and self._socket.closed is None:
            self._room.clear()
            self._room.wait()
        self._waiting.append(message)
        if self._answering is None:
            self._answering = gevent.spawn(copy_context().run, self._answer)

    def _answer(self) -> None:
        """Answer what waits; also what came right before a close, but nothing once we have closed ourselves."""
        try:
            while self._waiting and self._socket.closed is None:
                message = self._waiting.popleft()
                self._room.set()
                self._watched.check()
                self._answers.answer(message)
                with suppress(Gone):
                    self._socket.wait_room(UNREAD_BYTES)
        except InvalidApiKey:
            self._socket.close(KEY_OVER, OVER)
        except SessionNotFound:
            self._socket.close(NOT_VISIBLE, "there is no such session")
        finally:
            self._answering = None
            self._room.set()

    def _leave(self, following: Greenlet[None] | None) -> None:
        self._answers.stop_waiting()
        left = [greenlet for greenlet in (following, self._answering) if greenlet is not None]
        gevent.joinall(left, timeout=LEAVING_SECONDS)
        gevent.killall(left)

    def _follow(self) -> None:
        try:
            ended = self._send_log()
            if ended:
                self._settle()
            self._socket.close(NORMAL if ended else RESTARTING)
        except Gone:
            return
        except InvalidApiKey:
            self._socket.close(KEY_OVER, OVER)
        except JelmoreError as fault:
            log.warning("a WebSocket cannot go on", session_id=str(self._session_id), error=fault.code)
            self._answers.refuse(fault)
            self._socket.close(FAILED, fault.code)
        except Exception:  # whatever it is, the reader is told and the log has it
            log.exception("a WebSocket met an error nobody foresaw", session_id=str(self._session_id))
            self._answers.refuse(JelmoreError(INTERNAL))
            self._socket.close(FAILED, JelmoreError.code)

    def _settle(self) -> None:
        """Answer what was asked before the session's end was told: a kill is answered after the end it brought."""
        if (answering := self._answering) is not None:
            answering.join(timeout=SETTLE_SECONDS)
        self._answers.settle(SETTLE_SECONDS)

    def _send_log(self) -> bool:
        """Send the log; return whether that was all of it. Raises Gone."""
        ended = False
        with closing(self._hub.frames(self._session_id, self._follower, "websocket")) as looks:
            for seen in looks:
                self._watched.check()
                if self._follower.is_called:
                    self._answers.turn()
                if self._follower.is_called:  # still: not to turn, but to go
                    raise Gone
                ended = bool(seen) and seen[-1].kind is EntryKind.TERMINATED
                if seen and self._shows:
                    self._socket.send(b"".join(frame.text for frame in seen))
                    self._socket.wait_room()
        return ended
