"""The streams open in this process: how many, of which sessions, with which keys, and no more than allowed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import TooManyStreams, TooManyStreamsOfKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from models.tables import Session


Followed = Sequence[tuple[str, "UUID"]]
"""Sessions, each behind its owner."""


class Place:
    """A stream's place. Given back once, however often."""

    __slots__ = ("_followed", "_holds", "_key", "_streams")

    def __init__(self, streams: OpenStreams, followed: Followed, key: str | None, *, holds: bool) -> None:
        self._streams: OpenStreams | None = streams
        self._followed = followed
        self._key = key
        self._holds = holds

    def leave(self) -> None:
        """Give the place back."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.left(self._followed, self._key, holds=self._holds)


class OpenStreams:
    """Counts places. One greenlet at a time runs these few lines: there is nothing to lock.

    `held`: how many may hold one of the server's connections for as long as they last; the others have been taken from it.
    """

    def __init__(self, cap: int, cap_per_key: int | None = None, *, held: int | None = None) -> None:
        self._cap = cap
        self._cap_per_key = cap_per_key
        self._cap_held = cap if held is None else held
        self._held = 0
        self._followed: Counter[tuple[str, UUID]] = Counter()
        self._total = 0
        self._keys: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Return how many streams are open."""
        return self._total

    @property
    def sessions(self) -> int:
        """Return how many sessions are followed."""
        return len(self._followed)

    def by_owner(self) -> dict[str, dict[UUID, int]]:
        """Return how many streams are open of each owner's sessions: one of many sessions is one of each."""
        counts: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
        for (owner, session_id), count in self._followed.items():
            counts[owner][session_id] = count
        return dict(counts)

    def enter(self, *sessions: Session, key: str | None = None, holds: bool = True) -> Place:
        """Take a place for one stream of any sessions, for the key of that identity. Raises TooManyStreamsOfKey or TooManyStreams.

        `holds`: whether the stream holds one of the server's connections.
        """
        if key is not None and self._cap_per_key is not None and self._keys[key] >= self._cap_per_key:
            raise TooManyStreamsOfKey
        if self._total >= self._cap or (holds and self._held >= self._cap_held):
            raise TooManyStreams
        followed = [(session.owner, session.id) for session in sessions]
        self._followed.update(followed)
        self._total += 1
        self._held += holds
        if key is not None:
            self._keys[key] += 1
        return Place(self, followed, key, holds=holds)

    def left(self, followed: Followed, key: str | None, *, holds: bool) -> None:
        """Take a place back: `Place.leave` says so, once."""
        self._total -= 1
        self._held -= holds
        for each in followed:
            _subtract(self._followed, each)
        if key is not None:
            _subtract(self._keys, key)

    @contextmanager
    def place(self, session: Session, key: str | None = None) -> Iterator[None]:
        """Hold a place, and one of the server's connections, for a while. Raises TooManyStreamsOfKey or TooManyStreams."""
        place = self.enter(session, key=key)
        try:
            yield
        finally:
            place.leave()


def _subtract(counter: Counter[tuple[str, UUID]] | Counter[str], item: object) -> None:
    """Count one less, and forget what is zero."""
    counts: Counter[object] = counter  # type: ignore[assignment]
    counts[item] -= 1
    if counts[item] <= 0:
        del counts[item]
