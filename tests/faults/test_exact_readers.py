"""Whatever happens to Redis, PostgreSQL or subscriptions while all kinds of readers read: each has every byte, once, in order."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg2
import pytest

from streams import keys
from tests.checks import eventually, frozen, wait
from tests.client import SESSIONS, Reader
from tests.service import FULL_LENGTH
from tests.socket_reader import NORMAL, SocketReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.service import Service

LINES: Final = 2000 if FULL_LENGTH else 500
LINE_BYTES: Final = 2000
PRINTING: Final = f"""
import sys, time
for number in range({LINES}):
    sys.stdout.write(f"{{number:06d}} " + "x" * {LINE_BYTES} + "\\n")
    sys.stdout.flush()
    time.sleep(0.005)
"""
PATIENCE_SECONDS: Final = 60.0
LATE_SECONDS: Final = 2.5
DISCONNECTED: Final = "client_output_buffer_limit_disconnections"


def printed() -> bytes:
    return b"".join(b"%06d " % number + b"x" * LINE_BYTES + b"\n" for number in range(LINES))


def readers(service: Service, session_id: str) -> list[Reader]:
    """Those who read all the time, slow ones, and those who come and go, of both transports."""
    options: list[dict[str, Any]] = [{}, {"nap_seconds": 0.05}, {"cut_seconds": 0.2}]
    kinds = (Reader, SocketReader)
    return [
        kind(service.ada, session_id, limit_seconds=PATIENCE_SECONDS, **option) for kind in kinds for option in options
    ]


def emptied(service: Service, _session_id: str) -> None:
    for _ in range(3):
        wait(0.4)
        service.redis().flushall()


def killed(service: Service, _session_id: str) -> None:
    wait(0.4)
    service.valkey.kill()
    wait(0.5)
    service.valkey.start()


def killed_and_bare(service: Service, _session_id: str) -> None:
    wait(0.4)
    service.valkey.kill()
    shutil.rmtree(service.valkey.directory / "appendonlydir")
    service.valkey.start()


def subscribers_cut(service: Service, _session_id: str) -> None:
    client = service.redis()
    cut = 0
    for _ in range(8):
        wait(0.2)
        cut += client.client_kill_filter(_type="pubsub")
    assert cut >= 4


def subscribers_too_slow(service: Service, _session_id: str) -> None:
    """A subscriber that is stopped for a while, and the least room for what it does not take."""
    client = service.redis()
    before = client.info("stats")[DISCONNECTED]
    client.config_set("client-output-buffer-limit", "pubsub 1 0 0")
    try:
        # What Redis' own socket buffers hold is no longer in its memory: news of some MiB are needed beside ours.
        with frozen(service.web.pid):
            until = time.monotonic() + 10
            while client.info("stats")[DISCONNECTED] == before and time.monotonic() < until:
                client.publish(keys.RELAY, b"x" * 1024 * 1024)
        assert client.info("stats")[DISCONNECTED] > before
    finally:
        client.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")


def tails_trimmed(service: Service, session_id: str) -> None:
    client = service.redis()
    for _ in range(20):
        wait(0.1)
        client.xtrim(keys.log(session_id), maxlen=0, approximate=False)  # type: ignore[arg-type]


def segments_late(service: Service, _session_id: str) -> None:
    """What is printed waits for its place in PostgreSQL, and Redis forgets what is older meanwhile."""
    connection = psycopg2.connect(service.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE segments IN SHARE ROW EXCLUSIVE MODE")
        wait(LATE_SECONDS)
    connection.close()


FAULTS: Final[dict[str, Callable[[Service, str], None]]] = {
    "redis-emptied": emptied,
    "redis-killed": killed,
    "redis-killed-and-bare": killed_and_bare,
    "pubsub-killed": subscribers_cut,
    "output-buffer-limit": subscribers_too_slow,
    "tails-trimmed": tails_trimmed,
    "segments-late": segments_late,
}


@contextmanager
def followed(service: Service) -> Iterator[tuple[str, list[Reader]]]:
    """A session that prints, with its readers; the program begins when all of them have what comes first."""
    script = service.home / "printing.py"
    script.write_text(PRINTING)
    session_id = service.ada.create(f"echo ready; read go; exec {sys.executable} {script}")
    following = readers(service, session_id)
    eventually(lambda: all(reader.size >= len("ready\n") for reader in following))
    service.ada.input(session_id, "go")
    yield session_id, following


@pytest.mark.case(9, 10, 11)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_reader_has_every_byte_once_and_in_order(service: Service, fault: str) -> None:
    ada = service.ada
    with followed(service) as (session_id, following):
        FAULTS[fault](service, session_id)
        ends = [reader.finish() for reader in following]

    assert [(end["status"], end["exit_code"]) for end in ends] == [("completed", 0)] * len(ends)
    assert ada.output(session_id) == b"ready\n" + printed()
    assert {reader.last_id for reader in following} == {following[0].last_id}
    assert [reader.close_code for reader in following if isinstance(reader, SocketReader)] == [NORMAL] * 3
    path = f"{SESSIONS}/{session_id}/stream"
    assert ada.request("GET", path, headers={"Last-Event-ID": str(following[0].last_id)}).status == 204
