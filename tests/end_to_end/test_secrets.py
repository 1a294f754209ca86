"""One life of an installation with every kind of secret in it, and all that could be overheard of it meanwhile.

That no log, table or file holds one is looked at for every installation of the suite when it stops (`tests.leaks`). Here also what
passes and is gone: every command that Redis was sent, and the environments and command lines of all processes.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
import websocket

from tests.checks import eventually
from tests.client import SESSIONS
from tests.leaks import KNOWN, Secrets, refuse
from tests.service import ADA, ADMIN, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.service import Service

PROGRAM_SECRET: Final = f"program-{secrets.token_urlsafe(24)}"
PROGRAMS: Final = {"agent": {"argv": ["/bin/sh", "-c", "cat"], "env": {"AGENT_TOKEN": PROGRAM_SECRET}, "query": "none"}}
NEW_KEY: Final = {"name": "made", "owner": "ada", "permissions": ["read", "write"]}
SHOWN: Final = ("/api/v1/audit?limit=1000", "/api/v1/keys", "/api/v1/stats", "/metrics", "/health")
LOOK: Final = "env; tr '\\0' '\\n' < /proc/self/environ; tr '\\0' '\\n' < /proc/self/cmdline"


class Overheard(threading.Thread):
    """Every command that a Redis is sent, also what is published and gone."""

    def __init__(self, url: str, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        parts = urlsplit(url)
        assert parts.port is not None
        self._connection = socket.create_connection(("127.0.0.1", parts.port), timeout=60)
        self._connection.sendall(f"AUTH {parts.password}\r\nMONITOR\r\n".encode())
        self.start()

    def run(self) -> None:
        with self.path.open("wb") as file:
            try:
                while piece := self._connection.recv(65536):
                    file.write(piece)
            except OSError:
                pass

    def stop(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self._connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    settings = {"JELMORE_PROGRAMS": json.dumps(PROGRAMS), "RATE_LIMIT_GLOBAL": "100000/hour", "WORKER_SLOTS": "8"}
    settings |= {"FLOWER_BASIC_AUTH": f"me:{secrets.token_urlsafe(16)}", "LOG_LEVEL": "DEBUG"}
    with installed(tmp_path_factory.mktemp("secret"), new_database(), **settings) as started:
        KNOWN.know(PROGRAM_SECRET, "a variable of a program")
        yield started


def use_a_key(service: Service, key: str, session_id: str) -> None:
    """In every way there is, right and wrong."""
    right, nobody = service.client(key), service.client(None)
    assert right.get(session_id)["session_id"] == session_id
    for parameter in ("key", "api_key", "token", "access_token", "Authorization"):
        assert nobody.request("GET", f"{SESSIONS}?{parameter}={key}").status == 400
        assert nobody.request("GET", f"{SESSIONS}/{session_id}/stream?{parameter}={key}").status == 400
    for wrong in (f"{key}x", key[:-1], f"x{key}"):
        assert service.client(wrong).request("GET", SESSIONS).status == 401
    for header in ("Authorization", "X-Api-Key", "Cookie", "X-Request-ID", "Referer", "User-Agent"):
        nobody.request("GET", SESSIONS, headers={header: f"key={key}"})
    nobody.request("GET", SESSIONS, headers={"Authorization": f"Basic {key}"})
    for method, path in (("GET", "/nothing"), ("POST", f"{SESSIONS}/{session_id}/nothing"), ("BREW", SESSIONS)):
        assert right.request(method, path).status in (404, 405)
    right.request("POST", SESSIONS, b"{", headers={"Idempotency-Key": "broken"})


def use_tickets(service: Service, key: str, session_id: str) -> None:
    nobody = service.client(None)
    address = f"ws://127.0.0.1:{service.port}{SESSIONS}/{session_id}/ws"

    def ticket(*scopes: str) -> str:
        answer = service.client(key).request("POST", f"{SESSIONS}/{session_id}/tickets", {"scopes": list(scopes)})
        return str(answer.json()["ticket"])

    used = ticket("read")
    with nobody.follow(session_id, f"?ticket={used}") as stream:
        assert stream.status == 200
        assert next(iter(stream)).event == "connected"
    assert nobody.request("GET", f"{SESSIONS}/{session_id}/stream?ticket={used}").status == 401
    assert nobody.request("GET", f"{SESSIONS}?ticket={ticket('write')}").status == 401
    assert service.client(ticket("read")).request("GET", SESSIONS).status == 401
    for query, offers in ((f"?ticket={ticket('read', 'write')}", []), ("", [f"bearer.{key}"])):
        opened = websocket.create_connection(
            address + query, subprotocols=["jelmore.v1", *offers], suppress_origin=True, timeout=15
        )
        opened.send(json.dumps({"type": "input", "content": "hello", "id": "1"}))
        opened.send(json.dumps({"type": "nonsense", "token": key}))
        assert opened.recv()
        opened.close()
    with pytest.raises(websocket.WebSocketBadStatusException):
        websocket.create_connection(f"{address}?ticket={used}", subprotocols=["jelmore.v1"], timeout=15)


def shown_by_the_system(service: Service) -> Iterator[str]:
    """Command lines of all that runs here, and the environments of sessions."""
    for entry in Path("/proc").iterdir():
        try:
            line, variables = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if str(service.home).encode() in variables:
            yield line.decode(errors="replace")
            if b"JELMORE_SESSION_ID=" in variables:
                yield variables.decode(errors="replace").replace(PROGRAM_SECRET, "its own")


@dataclass
class Seen:
    """What could be read of one life of an installation while it went on. `told`: by it and the system."""

    redis: Path
    told: str
    printed: str
    token: str


def live(service: Service, token: str) -> tuple[str, str]:
    """Do whatever can be done with secrets; return what was told of it, and what a session printed that looked around."""
    made = service.admin.request("POST", "/api/v1/keys", NEW_KEY).json()
    minted = service.client(made["key"])
    variables = {"TOKEN": token}
    sessions = [
        minted.create("cat", env=variables),
        minted.create("cat", env=variables, terminal={"rows": 24, "cols": 80}),
        minted.create("x", program="agent"),
    ]
    looking = minted.create(LOOK)
    eventually(lambda: all(minted.get(each)["claude_process_id"] for each in sessions), 20)
    rotated = service.admin.request("POST", f"/api/v1/keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()
    for key in (ADMIN, ADA, made["key"], rotated["key"]):
        use_a_key(service, key, sessions[0])
    use_tickets(service, rotated["key"], sessions[0])
    told = list(shown_by_the_system(service))
    assert len(told) > 6
    for session_id in sessions:
        assert minted.delete(session_id).status == 200
    minted.events(looking)
    eventually(lambda: service.rows("SELECT 1 FROM sessions WHERE env <> '{}'") == [])
    told += [json.dumps(minted.get(each)) for each in sessions]
    told += [str(service.admin.request("GET", path).body) for path in SHOWN]
    return "\n".join(told), minted.output(looking).decode()


@pytest.fixture(scope="module")
def seen(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    token = f"token-{secrets.token_urlsafe(24)}"
    path = tmp_path_factory.mktemp("overheard") / "redis"
    overheard = Overheard(service.valkey.url, path)
    try:
        service.start("one")
        service.start_flower()
        told, printed = live(service, token)
    finally:
        service.stop()
        overheard.stop()
    return Seen(path, told, printed, token)


def test_redis_is_sent_no_secret_not_even_for_a_moment(seen: Seen) -> None:
    assert seen.redis.stat().st_size > 10_000
    assert seen.token in KNOWN.clients
    refuse(KNOWN.in_file(seen.redis, "what Redis was sent"))


def test_processes_and_answers_show_none(seen: Seen, tmp_path: Path) -> None:
    ours = Secrets()
    ours.ours = dict(KNOWN.ours)  # sessions have variables of their own
    (tmp_path / "told").write_text(seen.told + seen.printed)

    refuse(ours.in_file(tmp_path / "told", "what is shown of processes and sessions", printed=True))


def test_a_sessions_variables_are_its_own(seen: Seen) -> None:
    assert "JELMORE_SESSION_ID" in seen.printed
    assert seen.token not in seen.printed


def test_passwords_and_keys_of_every_kind_were_in_use(seen: Seen) -> None:
    """Else the above would prove nothing."""
    kinds = set(KNOWN.ours.values())

    assert kinds >= {
        "an API key",
        "a key, a ticket, a webhook's secret",
        "a password of Flower",
        "the password in DATABASE_URL",
        "the password in REDIS_URL",
        "a variable of a program",
    }
