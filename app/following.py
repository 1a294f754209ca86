"""What follows a position of one session's log, as it comes: for a request that waits for something in it.

The relay's channel says when to look; the log itself is read. In a plain process, a test's, there is no relay: it is asked
again and again.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from app.process import is_patched
from streams.log import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from app.web import Web
    from models.tables import Session
    from streams.ring import Channel

PACE_SECONDS: Final = 0.05
"""Between two reads of a log that is being written: what comes meanwhile is looked at in one go."""
NOTHING: Final = Reading([], ended=False)


class Following:
    """A position in a log that moves on."""

    def __init__(self, web: Web, session_id: UUID, after: int, channel: Channel | None) -> None:
        self._web = web
        self._session_id = session_id
        self._after = after
        self._channel = channel
        self._read_once = False
        self._behind = False
        self._returned_at: float | None = None

    @property
    def leaving(self) -> bool:
        """Whether this process leaves: nothing more is to be waited for."""
        return self._web.hub.leaving

    def next(self, seconds: float, max_bytes: int) -> Reading:
        """Return what follows, waiting at most so long for it; nothing if nothing has come."""
        began = self._web.clock.now()
        deadline = began + seconds
        self._rest(began, deadline)
        while True:
            news = self._channel.news if self._channel else None  # before looking: what comes in between wakes us
            left = deadline - self._web.clock.now()
            if left <= 0 or self._may_have_news():  # bells are lost: that nothing came is said by the log alone
                reading = self._web.log.read(self._session_id, self._after, max_bytes=max_bytes)
                self._read_once = True
                if reading.entries or reading.ended:
                    return self._passed(reading, max_bytes)
            if left <= 0 or self.leaving:
                return NOTHING
            if news is None:
                time.sleep(min(left, PACE_SECONDS))
            else:
                news.wait(min(left, self._web.settings.look_interval_seconds))

    def _rest(self, now: float, deadline: float) -> None:
        """Let output gather, and give others a turn where what was returned last took long to look at."""
        if self._returned_at is None:
            return
        effort = now - self._returned_at
        self._returned_at = None
        pause = effort if self._behind else max(PACE_SECONDS, 4 * effort)
        time.sleep(max(0.0, min(pause, deadline - now)))

    def _may_have_news(self) -> bool:
        channel = self._channel
        if channel is None or not self._read_once:  # behind the end of an ended session there is no news, but the end
            return True
        return channel.last < 0 or channel.last > self._after or channel.cut_short

    def _passed(self, reading: Reading, max_bytes: int) -> Reading:
        if reading.entries:
            self._after = reading.entries[-1].seq
        self._behind = sum(len(entry.data) for entry in reading.entries) > max_bytes // 2
        self._returned_at = self._web.clock.now()
        return reading


@contextmanager
def following(web: Web, session: Session, after: int) -> Iterator[Following]:
    """Follow a log behind entry `after`. Takes one of this process's places for streams. Raises TooManyStreams."""
    with web.streams.place(session):
        if is_patched():
            with web.hub.listen(session.id) as channel:
                yield Following(web, session.id, after, channel)
        else:
            yield Following(web, session.id, after, None)
