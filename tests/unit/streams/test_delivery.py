"""Fan-out to sockets: groups, those who fall behind, those who are cut in the midst of an entry. Over real socket pairs."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import gevent
import pytest

from core.errors import DatabaseUnavailable
from streams import sse
from streams.entries import Entry, EntryKind
from streams.followers import EventStream
from streams.log import Reading
from streams.relay import Hub
from streams.ring import Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

HERE = UUID(int=1)


@dataclass(frozen=True)
class Limits:
    ring_bytes: int = 64 * 1024
    look_interval_seconds: float = 0.05
    heartbeat_seconds: float = 30.0
    follower_timeout_seconds: float = 30.0


class Bells:
    """Doorbells that a test rings."""

    def open(self, on_bell: Callable[[UUID, int, bytes | None], None], _: Callable[[], None]) -> None:
        self.ring = on_bell

    def subscribe(self, _: UUID) -> None: ...

    def unsubscribe(self, _: UUID) -> None: ...


class Memory:
    """A log in memory, which may be away."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.reads = 0
        self.is_away = False

    def write(self, data: bytes, kind: EntryKind = EntryKind.OUTPUT) -> int:
        fields = {"offset": 0, "stream": "stdout"} if kind is EntryKind.OUTPUT else {"status": "completed"}
        self.entries.append(Entry(len(self.entries) + 1, kind, 0, fields, data))
        return len(self.entries)

    def read(self, _: UUID, after: int, *, max_bytes: int = 1 << 20) -> Reading:
        self.reads += 1
        gevent.sleep(0)
        if self.is_away:
            raise DatabaseUnavailable
        found: list[Entry] = []
        size = 0
        for entry in self.entries[after:]:
            if found and size > max_bytes:
                break
            found.append(entry)
            size += len(entry.data)
        return Reading(found, bool(found) and found[-1].kind is EntryKind.TERMINATED)

    def head(self, _: UUID) -> int:
        gevent.sleep(0)
        return len(self.entries)

    def live_heads(self, ids: Collection[UUID]) -> dict[UUID, int]:
        return dict.fromkeys(ids, len(self.entries))

    def looks(self, _: Collection[UUID]) -> dict[UUID, object]:
        return {}


class Client:
    """The other end of a follower's socket."""

    def __init__(self, hub: Hub, wish: Wish) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.follower = EventStream(hub, HERE, wish, theirs.detach())
        self.why: list[str | None] = []
        self.follower.left = lambda follower: self.why.append(follower.ended_by)
        self.seen = bytearray()
        hub.admit(self.follower, b"")

    def read(self, most: int = 1 << 20) -> bool:
        """Read what is there; False at the end."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return True
        self.seen += data
        return bool(data)


@pytest.fixture
def log() -> Memory:
    return Memory()


@pytest.fixture
def bells() -> Bells:
    return Bells()


@pytest.fixture
def hub(log: Memory, bells: Bells) -> Iterator[Hub]:
    hub = Hub(log, bells, Limits())  # type: ignore[arg-type]
    before = set(_greenlets())
    hub.open()
    yield hub
    gevent.killall([greenlet for greenlet in _greenlets() if greenlet not in before])


def _greenlets() -> list[gevent.Greenlet[object]]:
    import gc

    return [found for found in gc.get_objects() if isinstance(found, gevent.Greenlet) and not found.dead]


def finish(*clients: Client) -> None:
    """Read until every stream has ended."""
    reading = [*clients]
    for _ in range(5000):
        reading = [client for client in reading if client.read()]
        if not reading:
            return
        gevent.sleep(0.001)
    raise AssertionError("no end")


def expected(log: Memory, after: int = 0) -> bytes:
    return b"".join(map(sse.frame, log.entries[after:]))


def test_everybody_sees_the_same_wherever_they_begin(hub: Hub, log: Memory, bells: Bells) -> None:
    for number in range(20):
        log.write(b"before %d" % number)
    clients = [Client(hub, Wish(after)) for after in (0, 5, 20) for _ in range(300)]
    gevent.sleep(0.02)
    assert log.reads <= 10  # those at one place share a look
    for number in range(20):
        bells.ring(HERE, log.write(b"live %d" % number), None)
        gevent.sleep(0)
    bells.ring(HERE, log.write(b"", EntryKind.TERMINATED), None)
    finish(*clients)
    assert {bytes(client.seen) for client in clients} == {expected(log, after) for after in (0, 5, 20)}
    assert {client.follower.written for client in clients} == {len(expected(log, after)) for after in (0, 5, 20)}


@pytest.mark.parametrize("seed", range(5))
def test_whoever_reads_in_pieces_of_any_size_sees_every_byte_once(
    hub: Hub, log: Memory, bells: Bells, seed: int
) -> None:
    chosen = random.Random(seed)
    slow = [Client(hub, Wish(kinds=kinds)) for kinds in (None, frozenset({EntryKind.STATUS})) for _ in range(5)]
    for _ in range(300):
        kind = EntryKind.STATUS if chosen.random() < 0.1 else EntryKind.OUTPUT
        seq = log.write(chosen.randbytes(chosen.choice((1, 100, 5000, 40_000))), kind)
        if chosen.random() < 0.8:  # some bells are lost
            bells.ring(HERE, seq, None)
        for client in slow:
            if chosen.random() < 0.3:
                client.read(chosen.choice((1, 1000, 200_000)))
        if chosen.random() < 0.3:
            gevent.sleep(0)
    bells.ring(HERE, log.write(b"", EntryKind.TERMINATED), None)
    finish(*slow)
    statuses = b"".join(sse.frame(entry) for entry in log.entries if not entry.is_output)
    assert {bytes(client.seen) for client in slow[:5]} == {expected(log)}
    assert {bytes(client.seen) for client in slow[5:]} == {statuses}


def test_who_takes_nothing_holds_no_more_than_a_look_at_the_log(hub: Hub, log: Memory, bells: Bells) -> None:
    deaf, healthy = Client(hub, Wish()), Client(hub, Wish())
    for _ in range(150):
        bells.ring(HERE, log.write(b"x" * 10_000), None)
        healthy.read()
        gevent.sleep(0)
        assert deaf.follower.size < 32_000
        assert sum(len(frame.entry.data) for frame in deaf.follower.ahead) <= 256 * 1024 + 10_000
    bells.ring(HERE, log.write(b"", EntryKind.TERMINATED), None)
    finish(healthy)
    finish(deaf)
    assert healthy.seen == deaf.seen == expected(log)


def test_a_log_that_cannot_be_read_is_waited_for(hub: Hub, log: Memory, bells: Bells) -> None:
    log.write(b"one")
    log.is_away = True
    client = Client(hub, Wish())
    gevent.sleep(0.1)
    assert (client.read(), bytes(client.seen)) == (True, b"")
    log.is_away = False
    bells.ring(HERE, log.write(b"", EntryKind.TERMINATED), None)
    finish(client)
    assert client.seen == expected(log)


def test_who_hangs_up_is_forgotten(hub: Hub, log: Memory, bells: Bells) -> None:
    client = Client(hub, Wish())
    gevent.sleep(0.01)
    client.socket.close()
    gevent.sleep(0.01)
    assert client.why == ["client"]
    bells.ring(HERE, log.write(b"into the void"), None)
    gevent.sleep(0.01)
    assert not client.follower.is_open


def test_a_process_that_leaves_tells_everybody_and_waits_for_them(hub: Hub, log: Memory) -> None:
    log.write(b"x")
    clients = [Client(hub, Wish()) for _ in range(10)]
    gevent.sleep(0.02)
    hub.goodbye()
    finish(*clients)
    for client in clients:
        assert client.seen == expected(log) + sse.GOODBYE
        client.socket.close()
    hub.see_off(3)
    assert all(client.why == ["leaving"] for client in clients)
