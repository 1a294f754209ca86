"""A follower of several sessions at once, as a generator: their entries as they come, under an id that says where it is in each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent

from core import metrics
from core.errors import DatabaseUnavailable
from streams import sse
from streams.catching_up import PATIENCE_SECONDS
from streams.entries import EntryKind
from streams.pulling import look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from streams.relay import Hub
    from streams.ring import Channel, Frame, Wish

TRANSPORT = "sse"


@dataclass(slots=True)
class Strand:
    """One of the sessions: where it is followed from, and where that has come to."""

    session_id: UUID
    wish: Wish
    cursor: int
    is_over: bool
    """Whether its end has been sent, to this follower or before."""
    channel: Channel | None = None


def pulled_many(hub: Hub, strands: Sequence[Strand], *, as_base64: bool) -> Iterator[bytes]:
    """Yield events of all until after the end of the last. Closing the generator ends the following."""
    try:
        for strand in strands:
            if not strand.is_over:
                strand.channel = hub.join(strand.session_id, TRANSPORT)
        yield from _looks(hub, strands, as_base64)
    finally:
        for strand in strands:
            if strand.channel is not None:
                hub.leave(strand.channel, TRANSPORT)


def _looks(hub: Hub, strands: Sequence[Strand], as_base64: bool) -> Iterator[bytes]:
    unread_since: float | None = None
    while not all(strand.is_over for strand in strands):
        if hub.leaving:
            yield sse.GOODBYE
            return
        news = [strand.channel.news for strand in strands if strand.channel and not strand.is_over]  # before looking
        has_come = False
        try:
            for strand in strands:
                if strand.channel is None or strand.is_over:
                    continue
                frames, ended = look(hub, strand.channel, strand.cursor, strand.wish)
                has_come = has_come or bool(frames) or ended
                if data := b"".join(_sent(strands, strand, frames, as_base64)):
                    yield data
                strand.is_over = ended
            unread_since = None
        except DatabaseUnavailable:
            unread_since = unread_since or time.monotonic()
            if time.monotonic() - unread_since > PATIENCE_SECONDS:
                raise
            yield sse.HEARTBEAT
            gevent.sleep(hub.look_seconds)
            continue
        if not has_come and not gevent.wait(news, timeout=hub.beat, count=1):
            yield sse.HEARTBEAT


def _sent(strands: Sequence[Strand], strand: Strand, frames: Sequence[Frame], as_base64: bool) -> Iterator[bytes]:
    for frame in frames:
        strand.cursor = frame.seq
        metrics.GAPS.inc(frame.kind is EntryKind.GAP)
        if strand.wish.takes(frame.kind):
            place = ",".join(str(each.cursor) for each in strands)
            yield sse.frame_of(strand.session_id, frame.entry, place, as_base64=as_base64)
