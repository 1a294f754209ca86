"""Places for streams: as many as said, for streams and sockets together, and free again however a client goes away."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from tests.checks import eventually
from tests.integration.app.hostile import RESET, Told, read_answers
from tests.integration.app.serving import Api
from tests.integration.app.talking import HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.integration.app.serving import Gunicorn


PATIENCE_SECONDS: Final = 8.0
BACK_SECONDS: Final = 15.0
"""Within what time a place is free again: a heartbeat, the follower's time-out, and a busy machine."""
CAP, CAP_PER_KEY = 6, 4
SO_ATTACH_FILTER: Final = 26
KEYS: Final = {name: {"permissions": ["read", "write"], "name": name[:3]} for name in ("ada-key", "bob-key")}


@pytest.fixture
def served(variables: dict[str, str], gunicorns: Callable[..., Gunicorn]) -> Gunicorn:
    """One for all: each test leaves every place free."""
    few = {
        "API_KEYS": json.dumps(KEYS),
        "MAX_STREAMS": str(CAP),
        "MAX_STREAMS_PER_KEY": str(CAP_PER_KEY),
        "FOLLOWER_TIMEOUT_SECONDS": "2",
        "WEBSOCKET_PING_SECONDS": "0.5",
        "GRACEFUL_TIMEOUT_SECONDS": "1",
    }
    return gunicorns({**variables, **few}, config="gunicorn.conf.py")


@pytest.fixture
def api(served: Gunicorn) -> Iterator[Api]:
    with httpx2.Client(base_url=served.url, timeout=30) as client:
        yield (api := Api(client))
        eventually(lambda: taken(api) == 0, BACK_SECONDS)


def taken(api: Api) -> int:
    health: dict[str, Any] = api.client.get("/health").json()
    return int(health["infrastructure"]["websocket_manager"]["stats"]["total_connections"])


@contextmanager
def follower(served: Gunicorn, session_id: UUID, kind: str, key: str = "ada-key") -> Iterator[socket.socket]:
    """A connection on which a stream or a socket was asked for."""
    given = (
        {**HANDSHAKE, "Authorization": f"Bearer {key}"}
        if kind == "ws"
        else {"Host": "x", "Authorization": f"Bearer {key}"}
    )
    lines = [
        f"GET /api/v1/sessions/{session_id}/{kind} HTTP/1.1",
        *(f"{name}: {value}" for name, value in given.items()),
    ]
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection


def status(connection: socket.socket) -> int:
    return int(connection.recv(12).split()[1])


def refused(served: Gunicorn, session_id: UUID, kind: str, key: str) -> Told:
    with follower(served, session_id, kind, key) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: what-follows\r\n\r\n")
        told, closed = read_answers(connection)
    assert closed or told[-1].is_next
    return told[0]


def test_streams_and_sockets_share_the_places_and_health_answers_all_the_same(served: Gunicorn, api: Api) -> None:
    hers, his = api.create(), api.as_("bob-key").create()
    with ExitStack() as opened:
        for kind in ("stream", "ws") * (CAP_PER_KEY // 2):
            assert status(opened.enter_context(follower(served, hers, kind))) in (101, 200)
        for kind in ("stream", "ws"):
            too_many = refused(served, hers, kind, "ada-key")
            assert (too_many.status, too_many.code) == (429, "TOO_MANY_STREAMS")
            assert int(too_many.headers["retry-after"]) > 0
        for kind in ("stream", "ws")[: CAP - CAP_PER_KEY]:
            assert status(opened.enter_context(follower(served, his, kind, "bob-key"))) in (101, 200)
        for kind in ("stream", "ws"):
            too_many = refused(served, his, kind, "bob-key")
            assert (too_many.status, too_many.code) == (503, "TOO_MANY_STREAMS")
            assert int(too_many.headers["retry-after"]) > 0

        assert taken(api) == CAP
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert api.client.get(path).status_code == 200
        assert api.get(f"/sessions/{hers}").status_code == 200

    eventually(lambda: taken(api) == 0, BACK_SECONDS)


def test_what_was_refused_or_could_not_be_opened_holds_no_place(served: Gunicorn, api: Api) -> None:
    session_id = api.create()
    for _ in range(2):
        assert api.get(f"/sessions/{session_id}/stream?after=9").status_code == 400
        assert api.call("HEAD", f"/sessions/{session_id}/stream").status_code == 200
        assert refused(served, session_id, "ws?after=9", "ada-key").status == 400
        assert refused(served, session_id, "ws", "nobodys-key").status == 401

    assert taken(api) == 0


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


def unplug(connection: socket.socket) -> None:
    """Let everything that comes for a connection be lost: its machine is gone, and says nothing of it."""
    drop = _Instruction(0x06, 0, 0, 0)  # BPF: return 0
    program = struct.pack("HL", 1, ctypes.addressof(drop))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


@pytest.mark.parametrize("kind", ["stream", "ws"])
@pytest.mark.parametrize("how", ["closed", "reset", "unplugged", "deaf"])
def test_a_place_comes_back_however_its_client_goes(served: Gunicorn, api: Api, kind: str, how: str) -> None:
    session_id = api.create()
    with ExitStack() as opened:
        connections = [opened.enter_context(follower(served, session_id, kind)) for _ in range(CAP_PER_KEY)]
        assert {status(connection) for connection in connections} <= {101, 200}
        assert taken(api) == CAP_PER_KEY
        for connection in connections:
            if how == "unplugged":
                unplug(connection)
            elif how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()
            elif how == "closed":
                connection.close()
        if how == "deaf" and kind == "stream":
            return  # the kernel takes its heartbeats for it: nobody can know
        eventually(lambda: taken(api) == 0, BACK_SECONDS)
        assert refused(served, session_id, f"{kind}?after=9", "ada-key").status == 400
        with suppress(OSError):
            for connection in connections:
                connection.close()
