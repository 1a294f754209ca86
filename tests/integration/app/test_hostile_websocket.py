"""Frames and messages that want to break something: each ends in the close that says why, or in an error and an open socket."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from tests.checks import eventually
from tests.integration.app.hostile import RESET, errors_in, memory_mib, worker_of
from tests.integration.app.serving import Api
from tests.integration.app.talking import BINARY, CLOSE, PING, PONG, TEXT, Raw, masked, talking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Gunicorn

CONTINUED: Final = 0x0
RATE: Final = 5
BURST: Final = 10 * RATE
KIB: Final = 1024
MIB: Final = 1024 * KIB
LOOK_MIB: Final = 10
"""What one slow reader holds at most: a look at a MiB of the log, three as text of bytes that are none, and again to send it."""


@pytest.fixture
def served(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Iterator[Gunicorn]:
    """A web process that pings often and takes little; the same one afterwards, without an error nobody foresaw."""
    little = {
        "WEBSOCKET_MESSAGES_PER_SECOND": str(RATE),
        "WEBSOCKET_PING_SECONDS": "0.5",
        "FOLLOWER_TIMEOUT_SECONDS": "2",
    }
    gunicorn = gunicorns({**variables, **little})
    before = worker_of(gunicorn)
    yield gunicorn
    assert worker_of(gunicorn) == before
    assert errors_in(gunicorn.log) == []


@pytest.fixture
def api(served: Gunicorn) -> Iterator[Api]:
    with httpx2.Client(base_url=served.url, timeout=30) as client:
        yield Api(client)


@pytest.fixture
def session_id(api: Api) -> UUID:
    return api.create()


@contextmanager
def raw_socket(api: Api, session_id: UUID, query: str = "") -> Iterator[Raw]:
    line = f"GET /api/v1/sessions/{session_id}/ws{query} HTTP/1.1"
    opened = Raw(api, session_id, line=line)
    try:
        assert opened.status == 101
        yield opened
    finally:
        opened.shut()


def streams(api: Api) -> int:
    health: dict[str, Any] = api.client.get("/health").json()
    return int(health["infrastructure"]["websocket_manager"]["stats"]["total_connections"])


def unmasked(opcode: int, payload: bytes) -> bytes:
    return bytes((0x80 | opcode, len(payload))) + payload


FRAMES: Final[dict[str, tuple[bytes, int]]] = {
    "without a mask": (unmasked(TEXT, b'{"type": "ping"}'), 1002),
    "with a reserved bit": (masked(TEXT, b"{}", reserved=4), 1002),
    "with all of them": (masked(TEXT, b"{}", reserved=7), 1002),
    "of an unknown kind": (masked(0x3, b"{}"), 1002),
    "of an unknown kind of control": (masked(0xB, b""), 1002),
    "that continue nothing": (masked(CONTINUED, b"{}"), 1002),
    "that begin within another": (masked(TEXT, b"{", fin=False) + masked(TEXT, b"}"), 1002),
    "of control in two parts": (masked(PING, b"a", fin=False), 1002),
    "of control that are too long": (masked(PING, b"a" * 126), 1002),
    "of a close of one byte": (masked(CLOSE, b"a"), 1002),
    "of a close with a code of nobody": (masked(CLOSE, (1005).to_bytes(2)), 1002),
    "of a close without text": (masked(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
    "without text": (masked(TEXT, b'{"type": "\xff"}'), 1007),
    "without text, in two parts": (masked(TEXT, b'{"type": "\xc3', fin=False) + masked(CONTINUED, b'("}'), 1007),
    "with half a pair": (masked(TEXT, b'{"type": "\xed\xa0\x80"}'), 1007),
    "that are too long": (masked(TEXT, b"x" * (64 * KIB + 1)), 1009),
    "that are far too long": (masked(BINARY, b"x" * MIB), 1009),
    "that are too long in parts": (
        masked(TEXT, b"x" * 40 * KIB, fin=False) + masked(CONTINUED, b"x" * 40 * KIB, fin=False),
        1009,
    ),
    "that say they have 2^62 bytes": (masked(BINARY, b"x" * 128 * KIB, length=2**62), 1009),
    "with a length of more than 63 bits": (masked(BINARY, b"x" * 128 * KIB, length=2**64 - 1), 1002),
    "in a flood of pings": (masked(PING, b"") * (BURST + 50), 4429),
    "in a flood of pongs": (masked(PONG, b"x") * (BURST + 50), 4429),
    "in a flood of messages": (masked(TEXT, b'{"type": "ping"}') * (BURST + 50), 4429),
    "in a flood of nothing": (masked(TEXT, b"") * (BURST + 50), 4429),
    "in a flood of parts": (masked(TEXT, b"", fin=False) + masked(CONTINUED, b"", fin=False) * (BURST + 50), 4429),
    "in a flood of bytes": (masked(BINARY, b"\0") * (BURST + 50), 4429),
}
"""Bytes, and the code of the close that answers them."""


@pytest.mark.parametrize("name", FRAMES)
def test_frames_end_the_socket_with_the_reason(api: Api, session_id: UUID, name: str) -> None:
    sent, code = FRAMES[name]
    with raw_socket(api, session_id) as opened:
        opened.send(sent)
        assert opened.close_code() == code
    eventually(lambda: streams(api) == 0)


MESSAGES: Final[dict[str, str]] = {
    "30 000 brackets": "[" * 30_000,
    "10 000 objects": '{"a":' * 10_000,
    "deep, and closed": '{"type": "ping", "x": ' + "[" * 200 + "]" * 200 + "}",
    "a number that is none": '{"type": "ping", "x": 1e999}',
    "a name twice": '{"type": "ping", "type": "terminate"}',
    "a name twice within": '{"type": "input", "content": "x", "more": {"a": 1, "a": 2}}',
    "a byte order mark": "\ufeff{}",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_that_are_no_json_leave_the_socket_open(api: Api, session_id: UUID, name: str) -> None:
    with talking(api, session_id) as talk:
        talk.hear()
        talk.connection.send(MESSAGES[name])
        assert talk.hear()["error_code"] == "MALFORMED_BODY"
        assert talk.ask(type="ping")["event"] == "pong"


def test_a_message_in_single_bytes_and_many_parts_is_one(api: Api, session_id: UUID) -> None:
    whole = b'{"type": "ping", "id": "b\xc3\xa4"}'.replace(b"b\xc3\xa4", b"ba")
    with raw_socket(api, session_id) as opened:
        opened.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first, *others = (bytes((byte,)) for byte in whole)
        sent = masked(TEXT, first, fin=False) + b"".join(masked(CONTINUED, part, fin=False) for part in others)
        for byte in sent + masked(CONTINUED, b""):
            opened.send(bytes((byte,)))
        heard: dict[str, Any] = {}
        while heard.get("event") != "pong":
            frame = opened.frame()
            assert frame is not None
            if frame[0] == TEXT:
                heard = json.loads(frame[1])
        assert heard["id"] == "ba"


def test_who_says_nothing_more_is_closed_on_and_so_is_who_is_gone(api: Api, session_id: UUID) -> None:
    """Pings every half second; three unanswered ones are silence."""
    with raw_socket(api, session_id) as opened:  # it answers no ping
        assert opened.close_code() == 4408
    with raw_socket(api, session_id) as opened:
        assert streams(api) == 1
        opened.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        opened.connection.close()
        eventually(lambda: streams(api) == 0)


def test_half_a_frame_is_not_waited_for_for_ever(api: Api, session_id: UUID) -> None:
    with raw_socket(api, session_id) as opened:
        opened.send(masked(TEXT, b"x" * 100)[:20])
        assert opened.close_code() == 4408


def test_who_reads_nothing_costs_little_and_not_for_long(api: Api, holder: Holder, served: Gunicorn) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    for _ in range(64):
        run.write(os.urandom(32 * KIB))
    api.get(f"/sessions/{session_id}/output")
    before = memory_mib(worker_of(served))
    deaf = []
    try:
        for _ in range(20):
            opened = Raw(api, session_id, line=f"GET /api/v1/sessions/{session_id}/ws HTTP/1.1")
            opened.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.append(opened)
        assert memory_mib(worker_of(served)) < before + len(deaf) * LOOK_MIB
        assert api.client.get("/health/live").status_code == 200
        eventually(lambda: streams(api) == 0, 20)
    finally:
        for opened in deaf:
            opened.shut()


def test_after_all_of_it_many_times_the_memory_is_what_it_was(api: Api, session_id: UUID, served: Gunicorn) -> None:
    def send_all() -> None:
        for sent, code in FRAMES.values():
            with raw_socket(api, session_id) as opened:
                opened.send(sent)
                assert opened.close_code() == code

    send_all()
    before = memory_mib(worker_of(served))
    for _ in range(4):
        send_all()
    eventually(lambda: streams(api) == 0)

    assert memory_mib(worker_of(served)) < before + 24
