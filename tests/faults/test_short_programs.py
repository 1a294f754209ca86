"""Many short programs of any length of output: no tail is missing, no stream is endless, whenever its reader came."""

from __future__ import annotations

import hashlib
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
import websocket

from tests.checks import eventually
from tests.client import SESSIONS, Reader
from tests.service import FULL_LENGTH
from tests.socket_reader import NORMAL, SocketReader

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client import Client
    from tests.service import Service

PROGRAMS: Final = 1000 if FULL_LENGTH else 120
AT_ONCE: Final = 12
SEED: Final = 20261123
MOST_BYTES: Final = 200_000
LENGTHS: Final = (0, 1, 4095, 4096, 65536, 65537)
"""What is printed is of these lengths now and then: nothing, and around the sizes of pipes and pages."""
PRINTS: Final = (
    "head -c {length} {file}; exit {code}",
    "sleep 0.0{pause}; head -c {length} {file}; exit {code}",
    "(head -c {length} {file}) & wait; exit {code}",
    "trap 'head -c {length} {file}' EXIT; exit {code}",
    "head -c {half} {file}; sleep 0.0{pause}; tail -c +{behind} {file} | head -c {rest}; exit {code}",
)
COMES: Final = ("at once", "after some output", "after the end")
PATIENCE_SECONDS: Final = 60.0


@pytest.fixture
def file(service: Service) -> Path:
    """Every program prints the beginning of it: bytes of any value, some of them halves of characters."""
    path = service.home / "bytes"
    path.write_bytes(random.Random(SEED).randbytes(MOST_BYTES))
    return path


def shapes(file: Path) -> list[dict[str, Any]]:
    chance = random.Random(SEED)
    made = []
    for number in range(PROGRAMS):
        length = chance.choice(LENGTHS) if number % 4 == 0 else int(MOST_BYTES ** chance.random())
        half = chance.randint(0, length)
        members = {"length": length, "half": half, "rest": length - half, "behind": half + 1}
        code, pause = chance.randint(0, 9), chance.randint(1, 9)
        query = chance.choice(PRINTS).format(file=file, code=code, pause=pause, **members)
        kind = chance.choice((Reader, SocketReader))
        made.append({"query": query, "length": length, "code": code, "kind": kind, "comes": chance.choice(COMES)})
    return made


def run(client: Client, shape: dict[str, Any]) -> tuple[str, Reader]:
    """Run one and read it to its end."""
    session_id = client.create(shape["query"])
    if shape["comes"] == "after some output" and shape["length"]:
        eventually(lambda: client.get(session_id)["terminated_at"] or client.output(session_id), PATIENCE_SECONDS)
    elif shape["comes"] == "after the end":
        eventually(lambda: client.get(session_id)["terminated_at"], PATIENCE_SECONDS)
    reader = shape["kind"](client, session_id, limit_seconds=PATIENCE_SECONDS)
    end = reader.finish()
    expected = "completed" if shape["code"] == 0 else "failed"
    assert (end["status"], end["exit_code"]) == (expected, shape["code"]), shape
    return session_id, reader


def test_no_tail_is_missing_and_no_stream_is_endless(service: Service, file: Path) -> None:
    data = file.read_bytes()
    made = shapes(file)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda shape: run(service.ada, shape), made))

    for shape, (session_id, reader) in zip(made, done, strict=True):
        printed = data[: shape["length"]]
        assert (reader.size, reader.sha256) == (len(printed), hashlib.sha256(printed).hexdigest()), shape
        assert service.ada.output(session_id) == printed, shape
        again = {"Last-Event-ID": str(reader.last_id)}
        assert service.ada.request("GET", f"{SESSIONS}/{session_id}/stream", headers=again).status == 204
        assert said_after_the_end(service, session_id, reader.last_id) == (["session_info", "terminated"], NORMAL)


def said_after_the_end(service: Service, session_id: str, last_id: int) -> tuple[list[str], int]:
    """Return what a socket says that knows everything already, and with what code it is closed."""
    socket = websocket.create_connection(
        f"ws://127.0.0.1:{service.port}{SESSIONS}/{session_id}/ws?after={last_id}",
        timeout=PATIENCE_SECONDS,
        header=[f"Authorization: Bearer {service.ada.key}"],
        subprotocols=["jelmore.v1"],
    )
    try:
        events: list[str] = []
        while True:
            opcode, payload = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return events, int.from_bytes(payload[:2], "big")
            events.append(json.loads(payload)["event"])
    finally:
        socket.close()
