"""One open WebSocket and what is said over it: answered in its order, by a greenlet that is there as long as something waits.

The log goes out beside it: that is the relay's.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

import gevent
import structlog

from app.sockets import KEY_OVER, NORMAL, NOT_VISIBLE, OVER, Gone
from core.errors import InvalidApiKey, SessionNotFound

if TYPE_CHECKING:
    from gevent import Greenlet

    from app.api.answers import Answers
    from app.key_watch import Watched
    from app.sockets import Socket
    from core.errors import JelmoreError

log = structlog.get_logger(__name__)

WAITING: Final = 64
"""More messages stay in the socket: who sends faster than we answer is slowed down."""
UNREAD_BYTES: Final = 1024 * 1024
"""Who leaves more answers unread is not answered until he reads. More than an entry: ^C must get through."""
LEAVING_SECONDS: Final = 15.0
"""How long what was said before the close may still take."""
SETTLE_SECONDS: Final = 2.0
"""How long what was asked before the end may take to be answered behind it."""


class Conversation:
    """What one socket says. Made within the request that opened it: answers are given in its name."""

    def __init__(self, socket: Socket, watched: Watched, answers: Answers) -> None:
        self._socket = socket
        self._watched = watched
        self._answers = answers
        self._waiting: deque[str | bytes] = deque()
        self._answering: Greenlet[None] | None = None
        self._context = copy_context()
        self._is_over = False

    def take(self, message: str | bytes) -> None:
        """Answer a message, behind those that wait."""
        self._waiting.append(message)
        if len(self._waiting) >= WAITING:
            self._socket.pause(paused=True)
        if self._answering is None:
            self._answering = gevent.spawn(self._context.copy().run, self._answer)

    def hung_up(self) -> None:
        """Answer what waits, then close as well."""
        self._leave()
        if self._answering is None:
            self._socket.answer_close()

    def gone(self) -> None:
        """Do what was asked, though nobody is there any more to be told."""
        self._leave()

    def ended(self) -> None:
        """Answer what was asked before the session's end was told: a kill is answered after the end it brought."""
        if self._answering is None and not self._answers.are_awaited:
            self._socket.close(NORMAL)
        else:
            gevent.spawn(self._settle, self._answering)

    def refuse(self, fault: JelmoreError) -> None:
        """Say what is wrong."""
        self._answers.refuse(fault)

    def _answer(self) -> None:
        """Answer what waits; also what came right before a close, but nothing once we have closed ourselves."""
        try:
            while self._waiting and self._socket.closed is None:
                message = self._waiting.popleft()
                self._watched.check()
                self._answers.answer(message)
                with suppress(Gone):
                    self._socket.wait_room(UNREAD_BYTES)
                if len(self._waiting) < WAITING:
                    self._socket.pause(paused=False)
        except InvalidApiKey:
            self._socket.close(KEY_OVER, OVER)
        except SessionNotFound:
            self._socket.close(NOT_VISIBLE, "there is no such session")
        finally:
            self._answering = None
            self._waiting.clear()
            self._socket.pause(paused=False)
            if self._is_over:
                self._socket.answer_close()

    def _settle(self, answering: Greenlet[None] | None) -> None:
        if answering is not None:
            answering.join(timeout=SETTLE_SECONDS)
        self._answers.settle(SETTLE_SECONDS)
        self._socket.close(NORMAL)

    def _leave(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._answers.stop_waiting()
        if self._answering is not None:
            gevent.spawn_later(LEAVING_SECONDS, self._give_up, self._answering)

    def _give_up(self, answering: Greenlet[None]) -> None:
        answering.kill(block=False)
