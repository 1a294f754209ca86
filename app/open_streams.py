"""The streams open in this process: how many, of which sessions, with which keys, and no more than allowed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from core.errors import TooManyStreams, TooManyStreamsOfKey

if TYPE_CHECKING:
    from uuid import UUID


class OpenStreams:
    """Counts places. One greenlet at a time runs these few lines: there is nothing to lock."""

    def __init__(self, cap: int, cap_per_key: int | None = None) -> None:
        self._cap = cap
        self._cap_per_key = cap_per_key
        self._followers: Counter[UUID] = Counter()
        self._keys: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Return how many streams are open."""
        return self._followers.total()

    @property
    def sessions(self) -> int:
        """Return how many sessions are followed."""
        return len(self._followers)

    def take(self, session_id: UUID, key: str | None = None) -> None:
        """Take a place, for the key of that identity. Raises TooManyStreamsOfKey or TooManyStreams."""
        if key is not None and self._cap_per_key is not None and self._keys[key] >= self._cap_per_key:
            raise TooManyStreamsOfKey
        if self.total >= self._cap:
            raise TooManyStreams
        self._followers[session_id] += 1
        if key is not None:
            self._keys[key] += 1

    def leave(self, session_id: UUID, key: str | None = None) -> None:
        """Give a place back."""
        self._followers[session_id] -= 1
        self._followers += Counter()  # drops what is zero
        if key is not None:
            self._keys[key] -= 1
            self._keys += Counter()
