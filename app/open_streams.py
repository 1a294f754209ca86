"""The streams open in this process: how many, of which sessions, and no more than allowed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from core.errors import TooManyStreams

if TYPE_CHECKING:
    from uuid import UUID


class OpenStreams:
    """Counts places. One greenlet at a time runs these few lines: there is nothing to lock."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._followers: Counter[UUID] = Counter()

    @property
    def total(self) -> int:
        """Return how many streams are open."""
        return self._followers.total()

    @property
    def sessions(self) -> int:
        """Return how many sessions are followed."""
        return len(self._followers)

    def take(self, session_id: UUID) -> None:
        """Take a place. Raises TooManyStreams."""
        if self.total >= self._cap:
            raise TooManyStreams
        self._followers[session_id] += 1

    def leave(self, session_id: UUID) -> None:
        """Give a place back."""
        self._followers[session_id] -= 1
        self._followers += Counter()  # drops what is zero
