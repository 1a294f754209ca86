"""The streams open in this process: how many, of which sessions, with which keys, and no more than allowed."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import TooManyStreams, TooManyStreamsOfKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from models.tables import Session


class OpenStreams:
    """Counts places. One greenlet at a time runs these few lines: there is nothing to lock."""

    def __init__(self, cap: int, cap_per_key: int | None = None) -> None:
        self._cap = cap
        self._cap_per_key = cap_per_key
        self._followed: Counter[tuple[str, UUID]] = Counter()
        self._keys: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Return how many streams are open."""
        return self._followed.total()

    @property
    def sessions(self) -> int:
        """Return how many sessions are followed."""
        return len(self._followed)

    def by_owner(self) -> dict[str, dict[UUID, int]]:
        """Return how many streams are open of each owner's sessions."""
        counts: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
        for (owner, session_id), count in self._followed.items():
            counts[owner][session_id] = count
        return dict(counts)

    @contextmanager
    def place(self, session: Session, key: str | None = None) -> Iterator[None]:
        """Take a place, for the key of that identity. Raises TooManyStreamsOfKey or TooManyStreams."""
        if key is not None and self._cap_per_key is not None and self._keys[key] >= self._cap_per_key:
            raise TooManyStreamsOfKey
        if self.total >= self._cap:
            raise TooManyStreams
        followed = (session.owner, session.id)
        self._followed[followed] += 1
        if key is not None:
            self._keys[key] += 1
        try:
            yield
        finally:
            self._followed[followed] -= 1
            self._followed += Counter()  # drops what is zero
            if key is not None:
                self._keys[key] -= 1
                self._keys += Counter()
