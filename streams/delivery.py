"""Sending: what comes into a ring goes out to all who follow it, in one pass over their sockets.

Followers who have everything stand in *groups* of those who want the same in the same form. A group knows how far all of its
members are, so that a new entry costs one `send` each and nothing else. Whose socket does not take it all leaves the group and
goes on by itself: it delays nobody.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from core import metrics
from core.vital import spawn_vital
from streams.entries import EntryKind
from streams.ring import Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.catching_up import CatchingUp, Reader
    from streams.followers import Follower
    from streams.ring import Channel, Form, Frame

MEMBERS: Final = 256
"""Served without letting anybody else run: less than a millisecond."""
SLICE_SECONDS: Final = 0.002
"""After so much sending others run first, health above all."""
TAKES: Final = 8
"""One follower sends so many chunks of what it has missed, then others do."""

View = tuple["Form", frozenset[EntryKind] | None]
"""What a group's members want, and how it is written."""


class Group:
    """Followers of one session who have everything up to `cursor`, and want the same of what comes."""

    __slots__ = ("_pushes", "cursor", "ends", "members", "sent", "sent_at", "view")

    def __init__(self, view: View, cursor: int) -> None:
        self.view = view
        self.cursor = cursor
        self.members: dict[Follower, int] = {}
        """Each with what the group had sent when it came: the rest of `sent` is its own."""
        self._pushes: list[Callable[[bytes | memoryview], int]] | None = None
        """The members' ways out in one row: walking through thousands of objects costs more than calling them."""
        self.sent = 0
        self.sent_at = 0.0
        self.ends = False

    def join(self, follower: Follower) -> None:
        """Take a member that stands where the group does."""
        self.members[follower] = self.sent
        self._pushes = None
        follower.group = self

    def leave(self, follower: Follower) -> None:
        """Let a member go on by itself from here."""
        follower.group = None
        follower.cursor = self.cursor
        follower.ends = self.ends
        follower.written += self.sent - self.members.pop(follower)
        self._pushes = None
        if follower.wrote_at < self.sent_at:
            follower.wrote_at = self.sent_at

    def serve(self, frames: Sequence[Frame], chunk: bytes) -> None:
        """Send a chunk, which is what the members want of these frames, to all of them."""
        size = len(chunk)
        for follower, taken in self._fallen(chunk, size) if size else ():
            self.leave(follower)  # where it stood before these frames
            if taken < 0:
                follower.lost("client")
                continue
            follower.written += taken
            follower.took(frames, taken)
        self.cursor = frames[-1].seq
        self.ends = frames[-1].kind is EntryKind.TERMINATED
        self.sent += size
        if size:
            self.sent_at = time.monotonic()
            metrics.STREAM_BYTES.inc(size * len(self.members))

    def _fallen(self, chunk: bytes, size: int) -> list[tuple[Follower, int]]:
        """Send to all; return who has not taken it all, and how much (-1: nobody is there any more)."""
        if self._pushes is None:
            self._pushes = [follower.push for follower in self.members]
        fallen: list[tuple[int, int]] = []
        for push in self._pushes:
            try:
                taken = push(chunk)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = -1
            if taken != size:
                fallen.append((self._pushes.index(push), taken))
        if not fallen:
            return []
        members = [*self.members]
        return [(members[at], taken) for at, taken in fallen]


class Delivery:
    """The sending side of one process's hub."""

    def __init__(self, catching_up: CatchingUp) -> None:
        self._catching_up = catching_up
        self._news: deque[Channel] = deque()
        self._rung = Event()
        self._chunk: tuple[View, int, Sequence[Frame], bytes] | None = None

    def open(self) -> None:
        """Begin to send."""
        spawn_vital("relay's delivery", self._keep_delivering)

    def tell(self, channel: Channel) -> None:
        """Have what is new in a ring sent, soon: what comes meanwhile goes with it."""
        if not channel.told:
            channel.told = True
            self._news.append(channel)
            self._rung.set()

    # One follower.

    def go_on(self, follower: Reader) -> None:
        """Send what follows, as long as the socket takes it; leave the follower where it is to wait."""
        channel = follower.channel
        for _ in range(TAKES):
            if channel is None or follower.channel is not channel or follower.size or follower.asking is not None:
                return
            if follower.ends and not follower.ahead:
                follower.at_end()
                return
            frames = follower.ahead or (None if follower.skips else channel.since(follower.cursor))
            if frames is None:
                if follower.may_ask():
                    self._catching_up.ask(follower)
                return
            if not frames:
                follower.settle(channel)
                return
            follower.take(frames)
        gevent.get_hub().loop.run_callback(self.go_on, follower)  # others first

    def group(self, channel: Channel, follower: Follower) -> Group:
        """Return a group that stands where a follower does, and has room."""
        view = (follower.form, follower.wish.kinds)
        for group in channel.groups:
            if group.cursor == follower.cursor and group.view == view and len(group.members) < MEMBERS:
                return group
        group = Group(view, follower.cursor)
        channel.groups.append(group)
        return group

    # All of them.

    def unpark(self, channel: Channel) -> None:
        """Let those go on who could not know what follows."""
        parked, channel.parked = channel.parked, set()
        for follower in parked:
            self.go_on(follower)

    def _keep_delivering(self) -> None:
        while True:
            self._rung.wait()
            self._rung.clear()
            began = time.monotonic()
            while self._news:
                channel = self._news.popleft()
                channel.told = False
                for group in [*channel.groups]:
                    while self._served(channel, group):
                        began = _paused(began)
                apart, channel.apart = channel.apart, set()
                for reader in apart:
                    self.go_on(reader)
                    began = _paused(began)
                if (at_ms := channel.newest_at_ms) is not None:
                    metrics.STREAM_LAG_SECONDS.observe(max(0.0, time.time() - at_ms / 1000))
                self._tidy(channel)

    def _served(self, channel: Channel, group: Group) -> bool:
        """Send a group what is new; return whether there may be more."""
        if not group.members:
            return False
        if group.ends:
            for follower in [*group.members]:
                group.leave(follower)
                follower.at_end()
            return False
        frames = channel.since(group.cursor)
        if frames is None:  # the ring has moved on, or is not to be trusted any more
            for follower in [*group.members]:
                group.leave(follower)
                self.go_on(follower)
            return False
        if not frames:
            return False
        group.serve(frames, self._made(group, frames))
        return True

    def _made(self, group: Group, frames: Sequence[Frame]) -> bytes:
        """Return frames in a group's form. The next group is likely to want the same."""
        made = self._chunk
        if made is not None and made[:2] == (group.view, group.cursor) and made[2] == frames:
            return made[3]
        form, kinds = group.view
        takes = Wish(kinds=kinds).takes
        chunk = b"".join([frame.as_(form) for frame in frames if takes(frame.kind)])
        self._chunk = (group.view, group.cursor, frames, chunk)
        return chunk

    def _tidy(self, channel: Channel) -> None:
        self._chunk = None
        channel.groups = [group for group in channel.groups if group.members]
        self.unpark(channel)


def _paused(began: float) -> float:
    """Let others run if so much was sent; return when this began again."""
    if time.monotonic() - began <= SLICE_SECONDS:
        return began
    gevent.sleep(0)
    return time.monotonic()
