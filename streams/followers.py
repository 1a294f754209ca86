"""A reader of one session's log on a socket of its own: where it stands, and what becomes of it. Nobody's greenlet waits for it.

A stream of many sessions is `streams.many`: a socket with several positions.

A reader is always in one of these places:
* in a *group* (`streams.delivery`), with everybody else who has all there is: where that is, the group knows;
* *waiting* for its socket: the rest of one entry is held, the next ones are fetched when that is gone;
* *asking* the log for what the ring has no longer (`streams.catching_up`);
* *parked*, because nobody knows yet what follows;
* *ending*: nothing more is sent but what waits.

So a reader that takes nothing costs the rest of one entry, and at most what one look at the log brought.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.sending import OverEvents, Stream, Taking

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from streams.catching_up import Place
    from streams.delivery import Group
    from streams.relay import Hub
    from streams.ring import Channel, Frame, Wish


class Follower(Taking, Stream):
    """One reader of one log. It says what is written beside the log, and when."""

    __slots__ = (
        *("ahead", "asking", "channel", "cursor", "ends", "form", "group", "session_id", "skips", "unread_since"),
        "wish",
    )

    def __init__(self, hub: Hub, session_id: UUID, wish: Wish, fd: int) -> None:
        super().__init__(hub, fd)
        self.session_id = session_id
        self.wish = wish
        self.form = wish.form
        self.cursor = wish.after
        """The last entry that was sent, or is held; in a group, what the group says instead."""
        self.skips = wish.skip_to > 0
        """Whether the first output must be cut: it is the reader's own then."""
        self.channel: Channel | None = None
        self.group: Group | None = None
        self.asking: Place | None = None
        self.ahead: Sequence[Frame] = ()
        """Read from the log and not sent yet."""
        self.ends = False
        """Whether nothing follows `ahead`, ever."""
        self.unread_since: float | None = None

    # Its way through the log.

    def at_end(self) -> None:
        """End: the session's end has been sent."""
        raise NotImplementedError

    @property
    def out(self) -> Stream:
        """Return the socket: its own."""
        return self

    def shaped(self, frame: Frame) -> bytes:
        """Return an entry in the form that is wanted."""
        return frame.as_(self.form)

    def may_ask(self) -> bool:
        """Whether the log may be read for it now."""
        return True

    def park(self) -> None:
        """Wait until somebody may know what follows."""
        if self.channel is not None:
            self.channel.parked.add(self)

    def settle(self, channel: Channel) -> None:
        """Wait for what is new, with everybody else who has all there is."""
        self.hub.delivery.group(channel, self).join(self)

    def drained(self) -> None:
        """Go on behind what has waited."""
        if self.ended_by is not None:
            self.farewell()
        else:
            self.hub.delivery.go_on(self)

    def write(self, data: bytes | memoryview) -> None:
        """Send what is no entry, behind all that waits."""
        super().write(data)
        if self.size and self.group is not None:
            self.group.leave(self)

    def part(self) -> None:
        """Follow nothing any more."""
        self.hub.part(self)

    def lost(self, why: str) -> None:
        """Close at once: nobody is there any more, or is to be waited for."""
        super().lost(why)
        self.ahead = ()


class EventStream(OverEvents, Follower):
    """A reader over Server-Sent Events."""

    __slots__ = ()

    def silent_since(self) -> float:
        """Return when something was sent last: in a group, the group knows."""
        return max(self.wrote_at, self.group.sent_at if self.group is not None else 0.0)

    def at_end(self) -> None:
        """Close behind the log's last entry."""
        self.finish("end")
