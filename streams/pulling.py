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
from streams.ring import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

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
            frames, ended = look(hub, channel, cursor, wish)
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


def look(hub: Hub, channel: Channel, cursor: int, wish: Wish) -> tuple[list[Frame], bool]:
    """Return what follows a cursor, from the ring or else the log, and whether that is all there will be."""
    skip_to = wish.skip_to if cursor == wish.after else 0
    if not skip_to and (frames := channel.since(cursor)) is not None:
        return frames, bool(frames) and frames[-1].kind is EntryKind.TERMINATED
    reading = hub.read(channel.session_id, cursor)
    return [Frame(cut(entry, skip_to)) for entry in reading.entries], reading.ended
