"""Reading the log for followers the ring has nothing for: a few greenlets for all, and one read for all who stand at one place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import gevent
import structlog

from core.errors import DatabaseUnavailable, JelmoreError
from streams.entries import Entry
from streams.ring import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from streams.log import Log, Reading
    from streams.ring import Channel, Wish

log = structlog.get_logger(__name__)

READS_AT_ONCE: Final = 8
READ_BYTES: Final = 256 * 1024
"""What one look brings: a follower keeps that until its socket has taken it."""
PATIENCE_SECONDS: Final = 60.0
"""How long a follower waits for a log that cannot be read."""
INTERNAL: Final = "Internal server error"


class Place(NamedTuple):
    """Where somebody stands in a log. `skip_to`: output before that byte is not wanted, of what is read from here."""

    session_id: UUID
    cursor: int
    skip_to: int


class Reader(Protocol):
    """Who follows a log: a socket, or one of several that share one."""

    session_id: UUID
    wish: Wish
    cursor: int
    skips: bool
    channel: Channel | None
    asking: Place | None
    ahead: Sequence[Frame]
    ends: bool
    unread_since: float | None

    @property
    def size(self) -> int:
        """Return how many bytes wait for the socket."""

    def take(self, frames: Sequence[Frame]) -> None:
        """Send frames that follow, as far as the socket takes them at once."""

    def at_end(self) -> None:
        """End: the session's end has been sent."""

    def refuse(self, fault: JelmoreError) -> None:
        """End: the log cannot be read."""

    def may_ask(self) -> bool:
        """Whether the log may be read for it now; if not, it is told when."""

    def park(self) -> None:
        """Wait until somebody may know what follows."""

    def settle(self, channel: Channel) -> None:
        """Wait for what is new."""


class CatchingUp:
    """The looks at the log that followers ask for."""

    def __init__(self, reader: Log, go_on: Callable[[Reader], None]) -> None:
        self._log = reader
        self._go_on = go_on
        self._asked: dict[Place, list[Reader]] = {}
        self._readers = 0

    def ask(self, follower: Reader) -> None:
        """Have the log read behind a follower's cursor; it goes on when that is done."""
        skip_to = follower.wish.skip_to if follower.skips else 0
        place = Place(follower.session_id, follower.cursor, skip_to)
        follower.asking = place
        self._asked.setdefault(place, []).append(follower)
        if self._readers < READS_AT_ONCE:
            self._readers += 1
            gevent.spawn(self._read_all)

    def _read_all(self) -> None:
        try:
            while self._asked:
                place = next(iter(self._asked))
                self._read(place, self._asked.pop(place))
        finally:
            self._readers -= 1

    def _read(self, place: Place, followers: list[Reader]) -> None:
        reading: Reading | None = None
        fault: JelmoreError | None = None
        try:
            reading = self._log.read(place.session_id, place.cursor, max_bytes=READ_BYTES)
        except DatabaseUnavailable as unavailable:
            fault = unavailable
        except Exception:  # whatever it is, the readers are told and the log has it
            log.exception("a stream met an error nobody foresaw", session_id=str(place.session_id))
            fault = JelmoreError(INTERNAL)
        frames = [] if reading is None else [Frame(cut(entry, place.skip_to)) for entry in reading.entries]
        for follower in followers:
            if follower.asking != place:  # gone, or wants something else by now
                continue
            follower.asking = None
            if reading is None:
                self._unread(follower, fault)
            elif frames or reading.ended:
                follower.unread_since = None
                follower.ahead, follower.ends = frames, reading.ended
                self._go_on(follower)
            else:
                follower.unread_since = None
                self._nothing_yet(follower)

    def _unread(self, follower: Reader, fault: JelmoreError | None) -> None:
        now = time.monotonic()
        follower.unread_since = follower.unread_since or now
        if fault is not None and (
            not isinstance(fault, DatabaseUnavailable) or now - follower.unread_since > PATIENCE_SECONDS
        ):
            log.warning("a stream cannot go on", session_id=str(follower.session_id), error=fault.code)
            follower.refuse(fault)
        else:
            follower.park()

    def _nothing_yet(self, follower: Reader) -> None:
        channel = follower.channel
        if channel is not None and not follower.skips and channel.since(follower.cursor) is not None:
            self._go_on(follower)  # meanwhile the ring knows
        else:
            follower.park()


def cut(entry: Entry, skip_to: int) -> Entry:
    """Return an output entry without its bytes before a position."""
    if not entry.is_output or entry.offset >= skip_to:
        return entry
    kept = max(0, entry.end_offset - skip_to)
    data = entry.data[len(entry.data) - kept :]
    return Entry(entry.seq, entry.kind, entry.at_ms, {**entry.fields, "offset": entry.end_offset - kept}, data)
