"""Many sessions in one stream, over real socket pairs: every log whole and once, wherever a reader breaks off and goes on."""

from __future__ import annotations

import json
import random
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import gevent
import pytest

from core.errors import DatabaseUnavailable
from streams import sse
from streams.entries import Entry, EntryKind
from streams.log import Reading
from streams.many import Followed, Ids, ManyStream, name_of, named
from streams.pulling import pulled_many
from streams.relay import Hub
from streams.ring import Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

BLOCK: Final = re.compile(rb"id: ([0-9,]+)\nevent: (\w+)\ndata: (.*)", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    ring_bytes: int = 64 * 1024
    look_interval_seconds: float = 0.05
    heartbeat_seconds: float = 30.0
    follower_timeout_seconds: float = 30.0


class Bells:
    def open(self, on_bell: Callable[[UUID, int, bytes | None], None], _: Callable[[], None]) -> None:
        self.ring = on_bell

    def subscribe(self, _: UUID) -> None: ...

    def unsubscribe(self, _: UUID) -> None: ...


@dataclass
class Logs:
    """Several logs in memory, which may be away."""

    entries: dict[UUID, list[Entry]] = field(default_factory=dict)
    is_away: bool = False

    def write(self, session_id: UUID, data: bytes, kind: EntryKind = EntryKind.OUTPUT) -> int:
        log = self.entries.setdefault(session_id, [])
        fields = {"offset": 0, "stream": "stdout"} if kind is EntryKind.OUTPUT else {"status": "completed"}
        log.append(Entry(len(log) + 1, kind, 0, fields, data))
        return len(log)

    def read(self, session_id: UUID, after: int, *, max_bytes: int = 1 << 20) -> Reading:
        gevent.sleep(0)
        if self.is_away:
            raise DatabaseUnavailable
        found: list[Entry] = []
        size = 0
        for entry in self.entries.get(session_id, [])[after:]:
            if found and size > max_bytes:
                break
            found.append(entry)
            size += len(entry.data)
        return Reading(found, bool(found) and found[-1].kind is EntryKind.TERMINATED)

    def head(self, session_id: UUID) -> int:
        gevent.sleep(0)
        return len(self.entries.get(session_id, []))

    def live_heads(self, ids: Collection[UUID]) -> dict[UUID, int]:
        return {each: len(self.entries.get(each, [])) for each in ids}

    def looks(self, _: Collection[UUID]) -> dict[UUID, object]:
        return {}


class Client:
    """The other end of a stream's socket; it can break off and go on."""

    def __init__(self, hub: Hub, sessions: Sequence[UUID], kinds: frozenset[EntryKind] | None = None) -> None:
        self.hub, self.sessions, self.kinds = hub, sessions, kinds
        self.seen: dict[UUID, list[Entry]] = {each: [] for each in sessions}
        self.place = [0] * len(sessions)
        self.is_over = False
        self.connections = 0
        self._open()

    def _open(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        followed = [
            Followed(each, after, None if self._has_ended(each) else Wish(after, kinds=self.kinds))
            for each, after in zip(self.sessions, self.place, strict=True)
        ]
        self.stream = ManyStream(self.hub, followed, theirs.detach())
        self.connections += 1
        self._buffer = b""
        self.hub.admit_many(self.stream, b"")

    def _has_ended(self, session_id: UUID) -> bool:
        seen = self.seen[session_id]
        return bool(seen) and seen[-1].kind is EntryKind.TERMINATED

    def break_off(self) -> None:
        self.socket.close()
        self._open()

    def read(self, most: int = 1 << 20) -> bool:
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return True
        *blocks, self._buffer = (self._buffer + data).split(b"\n\n")
        for block in blocks:
            self._take(block)
        self.is_over = not data
        return bool(data)

    def _take(self, block: bytes) -> None:
        found = BLOCK.fullmatch(block)
        assert found, block
        place = [int(number) for number in found[1].split(b",")]
        data = json.loads(found[3])
        index = self.sessions.index(UUID(data.pop("session_id")))
        expected = [*self.place]
        expected[index] = place[index]
        if self.kinds is None:
            assert place == expected, "no other log has moved"
            assert place[index] == self.place[index] + 1, "no hole, no repetition"
        self.place = place
        log = self.seen[self.sessions[index]]
        log.append(Entry(place[index], EntryKind(found[2].decode()), 0, data))


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
def bells() -> Bells:
    return Bells()


@pytest.fixture
def hub(logs: Logs, bells: Bells) -> Iterator[Hub]:
    hub = Hub(logs, bells, Limits())  # type: ignore[arg-type]
    before = set(_greenlets())
    hub.open()
    yield hub
    gevent.killall([greenlet for greenlet in _greenlets() if greenlet not in before])


def _greenlets() -> list[gevent.Greenlet[object]]:
    import gc

    return [found for found in gc.get_objects() if isinstance(found, gevent.Greenlet) and not found.dead]


def finish(*clients: Client) -> None:
    reading = [*clients]
    for _ in range(5000):
        reading = [client for client in reading if client.read()]
        if not reading:
            return
        gevent.sleep(0.001)
    raise AssertionError("no end")


def shown(entry: Entry) -> tuple[int, str]:
    return entry.seq, str(sse.members(entry).get("content"))


def check(client: Client, logs: Logs) -> None:
    for session_id, seen in client.seen.items():
        told = [(entry.seq, str(entry.fields.get("content"))) for entry in seen]
        assert told == [shown(entry) for entry in logs.entries[session_id]]


def test_an_event_gets_the_readers_id_and_the_sessions_name() -> None:
    session_id = UUID(int=7)
    event = sse.frame(Entry(3, EntryKind.OUTPUT, 0, {"offset": 0, "stream": "stdout"}, b"{\n\nid: 9"))
    ids = Ids([Followed(UUID(int=1), 40, None), Followed(session_id, 2, Wish(2))])
    told = named(event, ids.at(1, 3), name_of(session_id))
    assert told.startswith(b"id: 40,3\nevent: output\ndata: {")
    data = json.loads(told.split(b"data: ", 1)[1])
    assert data.pop("session_id") == str(session_id)
    assert data == json.loads(event.split(b"data: ", 1)[1])


@pytest.mark.parametrize("seed", range(4))
def test_every_log_comes_whole_and_once_whatever_breaks(hub: Hub, logs: Logs, bells: Bells, seed: int) -> None:
    chosen = random.Random(seed)
    sessions = [UUID(int=number) for number in range(1, 9)]
    for session_id in sessions[:4]:
        for _ in range(30):
            logs.write(session_id, chosen.randbytes(5000))
    slow, steady = Client(hub, sessions), Client(hub, sessions[::-1])
    live = [*sessions]
    for step in range(600):
        session_id = chosen.choice(live)
        kind = EntryKind.STATUS if chosen.random() < 0.1 else EntryKind.OUTPUT
        seq = logs.write(session_id, chosen.randbytes(chosen.choice((1, 100, 5000, 40_000))), kind)
        if chosen.random() < 0.8:
            bells.ring(session_id, seq, None)
        if step % 150 == 149:
            live.remove(session_id)
            bells.ring(session_id, logs.write(session_id, b"", EntryKind.TERMINATED), None)
        if chosen.random() < 0.2:
            slow.read(chosen.choice((1, 1000, 100_000)))
        if step % 100 == 99:
            slow.break_off()
        steady.read()
        if chosen.random() < 0.4:
            gevent.sleep(0)
    for session_id in live:
        bells.ring(session_id, logs.write(session_id, b"", EntryKind.TERMINATED), None)
    finish(slow, steady)
    check(slow, logs)
    check(steady, logs)
    assert slow.connections == 7


def test_who_takes_nothing_holds_one_entry_and_one_look_at_one_log(hub: Hub, logs: Logs, bells: Bells) -> None:
    sessions = [UUID(int=number) for number in range(1, 21)]
    for session_id in sessions:
        for _ in range(100):
            logs.write(session_id, b"x" * 10_000)
    deaf = Client(hub, sessions)
    for step in range(200):
        session_id = sessions[step % 20]
        bells.ring(session_id, logs.write(session_id, b"y" * 10_000), None)
        gevent.sleep(0)
        assert deaf.stream.size < 32_000
        held = sum(len(frame.entry.data) for part in deaf.stream.parts for frame in part.ahead)
        assert held <= 256 * 1024 + 10_000
    for session_id in sessions:
        bells.ring(session_id, logs.write(session_id, b"", EntryKind.TERMINATED), None)
    finish(deaf)
    check(deaf, logs)


def test_what_is_not_wanted_moves_the_place_all_the_same(hub: Hub, logs: Logs, bells: Bells) -> None:
    one, two = UUID(int=1), UUID(int=2)
    client = Client(hub, [one, two], frozenset({EntryKind.STATUS}))
    gevent.sleep(0.01)
    for _ in range(5):
        bells.ring(one, logs.write(one, b"x"), None)
    gevent.sleep(0.01)
    bells.ring(two, logs.write(two, b"", EntryKind.TERMINATED), None)
    gevent.sleep(0.01)
    client.read()
    assert client.place == [5, 1]


def test_one_log_that_cannot_be_read_is_waited_for_and_nobody_is_forgotten(hub: Hub, logs: Logs, bells: Bells) -> None:
    sessions = [UUID(int=number) for number in range(1, 6)]
    for session_id in sessions:
        logs.write(session_id, b"before")
    logs.is_away = True
    client = Client(hub, sessions)
    gevent.sleep(0.1)
    assert client.read()
    assert client.place == [0] * 5
    logs.is_away = False
    for session_id in sessions:
        bells.ring(session_id, logs.write(session_id, b"", EntryKind.TERMINATED), None)
    finish(client)
    check(client, logs)


def test_a_process_that_leaves_says_so_and_who_hangs_up_is_forgotten(hub: Hub, logs: Logs) -> None:
    sessions = [UUID(int=1), UUID(int=2)]
    gone, told = Client(hub, sessions), Client(hub, sessions)
    ended: list[str | None] = []
    gone.stream.left = lambda stream: ended.append(stream.ended_by)
    gevent.sleep(0.01)
    gone.socket.close()
    gevent.sleep(0.01)
    assert ended == ["client"]
    hub.goodbye()
    gevent.sleep(0.01)
    assert told.socket.recv(1000) == sse.GOODBYE
    assert told.socket.recv(1000) == b""
    told.socket.close()
    hub.see_off(3)
    assert not told.stream.is_open


def test_a_generator_sees_the_same(hub: Hub, logs: Logs, bells: Bells) -> None:
    sessions = [UUID(int=1), UUID(int=2), UUID(int=3)]
    for session_id in sessions[:2]:
        logs.write(session_id, b"one")
    taken: list[bytes] = []
    followed = [Followed(each, 0, Wish()) for each in sessions]
    reading = gevent.spawn(lambda: taken.extend(pulled_many(hub, followed)))
    for _ in range(3):
        for session_id in sessions:
            bells.ring(session_id, logs.write(session_id, b"more"), None)
        gevent.sleep(0.01)
    for session_id in sessions:
        bells.ring(session_id, logs.write(session_id, b"", EntryKind.TERMINATED), None)
    reading.join(5)
    assert reading.ready()
    blocks = b"".join(chunk for chunk in taken if chunk != sse.HEARTBEAT).split(b"\n\n")[:-1]
    place = [0, 0, 0]
    for block in blocks:
        found = BLOCK.fullmatch(block)
        assert found
        index = sessions.index(UUID(json.loads(found[3])["session_id"]))
        place[index] += 1
        assert found[1] == b",".join(b"%d" % seq for seq in place)
    assert place == [5, 5, 4]
