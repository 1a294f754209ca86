"""Where one reader of a log stands and what it wants of it. The relay asks before each look.

An event stream's wish stands for as long as it is open. Over a WebSocket it may be changed at any time: the reader's greenlet is
woken, and makes the turn itself, between two messages. So what is sent after the answer is what was asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gevent.event import Event

if TYPE_CHECKING:
    from streams.entries import EntryKind
    from streams.ring import Wish


class Follower:
    """A reader that wants the same until it goes."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.cursor = wish.after

    @property
    def is_called(self) -> bool:
        """Whether its owner has something to say to it: what was read meanwhile is not for it."""
        return False

    def wait(self, news: Event, seconds: float) -> bool:
        """Wait for news of the log; return whether there may be some."""
        return bool(news.wait(seconds))


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of what is wanted: other kinds (None: all), and from elsewhere on, if `after` says so."""

    kinds: frozenset[EntryKind] | None
    after: int | None = None


class TurningFollower(Follower):
    """A reader that can be told to want something else."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self._turns: deque[Turn] = deque()
        self._woken = Event()
        self._called = False

    @property
    def is_called(self) -> bool:
        """Whether it has to turn, or to look up."""
        return self._called or bool(self._turns)

    def call(self) -> None:
        """Make it look up, from here on each time: its owner wants it to go."""
        self._called = True
        self._woken.set()

    def ask(self, turn: Turn) -> None:
        """Tell it to turn as soon as it can."""
        self._turns.append(turn)
        self._woken.set()

    def turn(self) -> Turn | None:
        """Make the next turn that was asked for, and return it. Only its own greenlet may."""
        if not self._turns:
            return None
        turn = self._turns.popleft()
        if turn.after is None:
            self.wish = replace(self.wish, kinds=turn.kinds)
        else:
            self.wish = replace(self.wish, kinds=turn.kinds, after=turn.after, skip_to=0)
            self.cursor = turn.after
        return turn

    def wait(self, news: Event, seconds: float) -> bool:
        """Wait for news of the log, or to be told to turn."""
        self._woken.clear()
        if self.is_called:
            return True
        news.rawlink(self._wake)
        try:
            return bool(self._woken.wait(seconds))
        finally:
            news.unlink(self._wake)

    def _wake(self, _: Event) -> None:
        self._woken.set()
