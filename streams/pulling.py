"""A follower as a generator, for servers that cannot give their sockets away: plain WSGI, TLS or HTTP/2 in the server, tests.

The server's own greenlet or thread waits in it, so it costs much more than a follower of `streams.followers`; it sees the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from core import metrics
from core.errors import DatabaseUnavailable
from streams import sse
from streams.catching_up import PATIENCE_SECONDS, cut
from streams.entries import EntryKind
from streams.many import Ids, name_of, named
from streams.ring import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from streams.many import Followed
    from streams.relay import Hub
    from streams.ring import Channel, Wish


def pulled(hub: Hub, session_id: UUID, wish: Wish) -> Iterator[bytes]:
    """Yield the session's events from a position on, until after its end. Closing the generator ends the following."""
    ended = False
    channel = hub.join(session_id, "sse")
    try:
        for frames in _looks(hub, channel, wish):
            yield b"".join(frame.as_(wish.form) for frame in frames) or sse.HEARTBEAT
            ended = bool(frames) and frames[-1].kind is EntryKind.TERMINATED
    finally:
        hub.leave(channel, "sse")
    if not ended:
        yield sse.GOODBYE


def _looks(hub: Hub, channel: Channel, wish: Wish) -> Iterator[list[Frame]]:
    """Yield what is wanted of what follows; nothing at all (an empty list): nothing has come for a while."""
    cursor = wish.after
    unread_since: float | None = None
    while not hub.leaving:
        news = channel.news  # before looking: what comes in between wakes us
        try:
            frames, ended = _next(hub, channel, cursor, wish)
        except DatabaseUnavailable:
            unread_since = unread_since or time.monotonic()
            if time.monotonic() - unread_since > PATIENCE_SECONDS:
                raise
            yield []
            gevent.sleep(hub.look_seconds)
            continue
        unread_since = None
        if frames:
            cursor = frames[-1].seq
            metrics.GAPS.inc(sum(frame.kind is EntryKind.GAP for frame in frames))
            if wanted := [frame for frame in frames if wish.takes(frame.kind)]:
                yield wanted
        elif not ended and not news.wait(hub.beat):
            yield []
        if ended:
            return


def _next(hub: Hub, channel: Channel, cursor: int, wish: Wish) -> tuple[list[Frame], bool]:
    """Return what follows a cursor, from the ring or else the log, and whether that is all there will be."""
    skip_to = wish.skip_to if cursor == wish.after else 0
    if not skip_to and (frames := channel.since(cursor)) is not None:
        return frames, bool(frames) and frames[-1].kind is EntryKind.TERMINATED
    reading = hub.read(channel.session_id, cursor)
    return [Frame(cut(entry, skip_to)) for entry in reading.entries], reading.ended


def pulled_many(hub: Hub, followed: Sequence[Followed]) -> Iterator[bytes]:
    """Yield the events of several sessions from positions on, until after all their ends, as `streams.many` sends them."""
    ids = Ids(followed)
    metrics.FOLLOWERS.labels("sse").inc()
    pulls: list[_Pull] = []
    try:
        for index, each in enumerate(followed):
            if each.wish is not None:
                pulls.append(
                    _Pull(hub, each.session_id, each.wish, index)
                )  # not as one list: those there are let go of
        yield from _rounds(hub, pulls, ids)
    finally:
        for pull in pulls:
            pull.leave()
        metrics.FOLLOWERS.labels("sse").dec()
    if not all(pull.is_over for pull in pulls):
        yield sse.GOODBYE


def _rounds(hub: Hub, pulls: Sequence[_Pull], ids: Ids) -> Iterator[bytes]:
    unread_since: float | None = None
    while not hub.leaving and (live := [pull for pull in pulls if not pull.is_over]):
        news = [pull.channel.news for pull in live]  # before looking: what comes in between wakes us
        try:
            moved = False
            for pull in live:
                for chunk in pull.next(ids):
                    moved = True
                    yield chunk or sse.HEARTBEAT
        except DatabaseUnavailable:
            unread_since = unread_since or time.monotonic()
            if time.monotonic() - unread_since > PATIENCE_SECONDS:
                raise
            yield sse.HEARTBEAT
            gevent.sleep(hub.look_seconds)
            continue
        unread_since = None
        if not moved and not gevent.wait(news, timeout=hub.beat, count=1):
            yield sse.HEARTBEAT


class _Pull:
    """One of several logs that are followed at once, and where its reader stands."""

    def __init__(self, hub: Hub, session_id: UUID, wish: Wish, index: int) -> None:
        self.channel = hub.join(session_id)
        self.is_over = False
        self._hub = hub
        self._wish = wish
        self._cursor = wish.after
        self._index = index
        self._name = name_of(session_id)

    def next(self, ids: Ids) -> Iterator[bytes]:
        """Yield what follows, if something does: all of it is taken, and maybe nothing of it wanted."""
        frames, ended = _next(self._hub, self.channel, self._cursor, self._wish)
        if frames:
            self._cursor = frames[-1].seq
            metrics.GAPS.inc(sum(frame.kind is EntryKind.GAP for frame in frames))
            form, takes = self._wish.form, self._wish.takes
            yield b"".join(
                named(frame.as_(form), ids.at(self._index, frame.seq), self._name)
                for frame in frames
                if takes(frame.kind)
            )
            ids.at(self._index, self._cursor)
        elif ended:
            yield b""
        self.is_over = ended

    def leave(self) -> None:
        """Let go of its channel."""
        self._hub.leave(self.channel)
