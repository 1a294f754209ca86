"""Whom fan-out is measured against: each is one process that serves, on a free port, started for one measurement and stopped."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

import redis

from benchmarks import peers
from benchmarks.building import built
from benchmarks.client import KEY, Client
from benchmarks.fanout import messages, nchan
from benchmarks.processes import Running
from core.settings import environment, load_settings
from jelmore.embedded.server import free_port
from migrations.__main__ import upgrade
from streams import keys
from streams.appender import APPEND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

APPS: Final = Path(__file__).with_name("peers")
SOCKET: Final = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
CHANNEL: Final = "fanout"
RULES: Final = ("GLOBAL", "AUTHENTICATION", "SESSION_CREATION", "STREAMING", "WEBSOCKET")


@dataclass(frozen=True)
class Served:
    """One arm that runs: what opens a stream, what publishes a message, and whose processor and memory count.

    `greeting`: what the publishing connection begins with.
    """

    port: int
    request: bytes
    publish_port: int
    template: bytes
    pids: Sequence[int]
    greeting: bytes = b""


@dataclass(frozen=True)
class FanArm:
    """One arm. `start`: starts it within a folder, for messages of so many bytes; None: it cannot be had."""

    name: str
    start: Callable[[Running, dict[str, str], Path, int], Served | None]

    @contextmanager
    def served(self, addresses: dict[str, str], home: Path, size: int) -> Iterator[Served | None]:
        """Run it for a while."""
        running = Running(home, peers.ROOT)
        try:
            yield self.start(running, addresses, home, size)
        finally:
            running.stop()


def _request(port: int, path: str, more: str = "") -> bytes:
    accept = "" if "Upgrade" in more else "Accept: text/event-stream\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{accept}{more}\r\n".encode()


def _redis_port(addresses: dict[str, str]) -> int:
    return urlsplit(addresses["REDIS_URL"]).port or 6379


def _password(addresses: dict[str, str]) -> str:
    return urlsplit(addresses["REDIS_URL"]).password or ""


def _auth(addresses: dict[str, str]) -> bytes:
    return messages.command("AUTH", _password(addresses))


def _child(pid: int) -> int:
    """Return the one worker of a gunicorn."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


# Ours.


def _jelmore(running: Running, addresses: dict[str, str], home: Path, size: int, *, socket: bool) -> Served:
    """Start one web process. The session is nobody's: what a worker would append is published here, by its own script."""
    upgrade(load_settings(addresses).database_url)
    port = free_port()
    env = {
        "PATH": environment().get("PATH", os.defpath),
        **addresses,
        "JELMORE_HOME": str(home / "jelmore"),
        "API_HOST": "127.0.0.1",
        "PORT": str(port),
        "API_KEYS": json.dumps({KEY: {"permissions": ["admin"]}}),
        "DEFAULT_PROGRAM": "shell",
        "MAX_CONCURRENT_SESSIONS": "1000000",
        "MAX_STREAMS": "10000",
        "LOG_LEVEL": "WARNING",
        **{f"RATE_LIMIT_{rule}": "" for rule in RULES},
    }
    web = running.start("web", [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"], env)
    running.wait_for("web", port)
    client = Client(port)
    session_id = UUID(client.create("true"))
    client.close()
    connection = redis.Redis.from_url(addresses["REDIS_URL"])
    connection.script_load(APPEND.text)
    head = ("fence", messages.FENCE, "seq", messages.BEFORE_FIRST, "claim", "")
    connection.hset(keys.head(session_id), items=[*head])
    connection.close()
    path = f"/api/v1/sessions/{session_id}/{'ws' if socket else 'stream'}?after={messages.BEFORE_FIRST}"
    more = f"Authorization: Bearer {KEY}\r\n" + (SOCKET + "Sec-WebSocket-Protocol: jelmore.v1\r\n" if socket else "")
    return Served(
        port,
        _request(port, path, more),
        _redis_port(addresses),
        messages.appended(session_id, size),
        [_child(web.pid)],
        _auth(addresses),
    )


def _ours(running: Running, addresses: dict[str, str], home: Path, size: int) -> Served:
    return _jelmore(running, addresses, home, size, socket=False)


def _our_sockets(running: Running, addresses: dict[str, str], home: Path, size: int) -> Served:
    return _jelmore(running, addresses, home, size, socket=True)


# Theirs.


def _floor(running: Running, addresses: dict[str, str], _: Path, size: int) -> Served | None:
    program = built("fanout/floor")
    if program is None:
        return None
    port = free_port()
    process = running.start(
        "floor", [str(program), str(port), str(_redis_port(addresses)), _password(addresses), CHANNEL], {}
    )
    running.wait_for("floor", port)
    template = messages.published(CHANNEL, size)
    return Served(port, _request(port, "/stream"), _redis_port(addresses), template, [process.pid], _auth(addresses))


def _nchan(running: Running, home: Path, size: int, more: str) -> Served | None:
    port = free_port()
    command = nchan.command(home, port)
    if command is None:
        return None
    process = running.start("nchan", command, {"PATH": os.defpath})
    running.wait_for("nchan", port)
    return Served(port, _request(port, "/stream", more), port, messages.posted("/publish", size), [process.pid])


def _nchan_events(running: Running, _: dict[str, str], home: Path, size: int) -> Served | None:
    return _nchan(running, home, size, "")


def _nchan_sockets(running: Running, _: dict[str, str], home: Path, size: int) -> Served | None:
    return _nchan(running, home, size, SOCKET)


def _python(
    running: Running, addresses: dict[str, str], module: str, command: Sequence[str], name: str
) -> tuple[int, int] | None:
    """Start a peer in Python with the peers' own interpreter; return port and pid."""
    if not peers.install():
        return None
    port = free_port()
    env = {"PATH": os.defpath, "REDIS_URL": addresses["REDIS_URL"], "PYTHONPATH": str(APPS)}
    words = [word.replace("PORT", str(port)) for word in command]
    process = running.start(name, [str(peers.PYTHON), "-m", *words, module], env)
    running.wait_for(name, port)
    return port, process.pid


GUNICORN: Final = (
    *(
        "gunicorn",
        "-c",
        os.devnull,
        "-k",
        "gevent",
        "--worker-connections",
        "20000",
        "--backlog",
        "4096",
        "-b",
        "127.0.0.1:PORT",
    ),
    *("--no-control-socket", "--log-level", "error"),
)
UVICORN: Final = ("uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--log-level", "error", "--backlog", "4096")


def _flask_sse(running: Running, addresses: dict[str, str], _: Path, size: int) -> Served | None:
    started = _python(running, addresses, "flask_sse_app:app", GUNICORN, "flask-sse")
    if started is None:
        return None
    port, pid = started
    template = messages.flask_sse("sse", size)
    return Served(port, _request(port, "/stream"), _redis_port(addresses), template, [_child(pid)], _auth(addresses))


def _starlette(running: Running, addresses: dict[str, str], _: Path, size: int) -> Served | None:
    started = _python(running, addresses, "starlette_hub:app", UVICORN, "sse-starlette")
    if started is None:
        return None
    port, pid = started
    template = messages.published(CHANNEL, size)
    return Served(port, _request(port, "/stream"), _redis_port(addresses), template, [pid], _auth(addresses))


def _flask_sock(running: Running, addresses: dict[str, str], _: Path, size: int) -> Served | None:
    started = _python(running, addresses, "sock_queues:app", GUNICORN, "flask-sock")
    if started is None:
        return None
    port, pid = started
    template = messages.published(CHANNEL, size)
    return Served(
        port, _request(port, "/ws", SOCKET), _redis_port(addresses), template, [_child(pid)], _auth(addresses)
    )


OURS: Final = FanArm("Jelmore", _ours)
OUR_SOCKETS: Final = FanArm("Jelmore", _our_sockets)
EVENTS: Final = (
    OURS,
    FanArm("floor", _floor),
    FanArm("nchan", _nchan_events),
    FanArm("sse-starlette", _starlette),
    FanArm("flask-sse", _flask_sse),
)
SOCKETS: Final = (OUR_SOCKETS, FanArm("nchan", _nchan_sockets), FanArm("flask-sock", _flask_sock))
