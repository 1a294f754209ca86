"""What docker-compose.yml describes, behind nginx: streams come through, and nobody notices that every process is replaced."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
import websocket

from tests.checks import eventually
from tests.client import SESSIONS, Answer, Reader
from tests.service import FULL_LENGTH
from tests.topology import KEY, composed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.topology import Topology

USERS: Final = 8 if FULL_LENGTH else 3
ROUNDS: Final = 3 if FULL_LENGTH else 1
LINES: Final = 20
TALK: Final = f"for i in $(seq {LINES}); do echo line $i; sleep 0.05; done; read answer; echo got $answer"
WHOLE: Final = "".join(f"line {number}\n" for number in range(1, LINES + 1)) + "got it\n"
ENDS: Final = {("completed", "exited"), ("terminated", "worker_shutdown")}


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Topology]:
    with composed(tmp_path_factory.mktemp("topology"), new_database()) as started:
        yield started


def asked(topology: Topology, method: str, path: str, body: object = None) -> Answer:
    """Ask through nginx, and come again where it is said so."""
    give_up = time.monotonic() + 30
    while True:
        answer = topology.client.request(method, path, body)
        if answer.status != 503:
            return answer
        assert int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_a_session_comes_through_by_both_transports(topology: Topology) -> None:
    session_id = asked(topology, "POST", SESSIONS, {"query": TALK}).json()["session_id"]
    reader = Reader(topology.client, session_id)
    socket = websocket.create_connection(
        f"ws://127.0.0.1:{topology.nginx_port}{SESSIONS}/{session_id}/ws",
        header={"Authorization": f"Bearer {KEY}"},
        suppress_origin=True,
        timeout=15,
    )
    assert asked(topology, "POST", f"{SESSIONS}/{session_id}/input", {"input": "it\n"}).status == 200
    told: list[dict[str, Any]] = []
    while not told or told[-1]["event"] != "terminated":
        told.append(json.loads(socket.recv()))
    socket.close()

    assert reader.finish()["exit_code"] == told[-1]["exit_code"] == 0
    assert "".join(each["content"] for each in told if each["event"] == "output") == WHOLE
    assert asked(topology, "GET", f"{SESSIONS}/{session_id}/output?format=raw").status == 200


def test_what_is_for_the_inside_is_closed_off(topology: Topology) -> None:
    for path in ("/metrics", "/flower/metrics", "/flower/healthcheck"):
        answer = topology.client.request("GET", path)
        assert (answer.status, b"nginx" in answer.body) == (404, True), path
    assert topology.client.request("GET", "/flower/").status == 401
    assert topology.client.request("GET", "/health").json()["status"] == "healthy"
    assert "ticket" not in (topology.home / "nginx" / "access.log").read_text()


def test_two_workers_and_two_web_processes_share_the_work(topology: Topology) -> None:
    seen: set[tuple[str, str]] = set()

    def both() -> bool:
        session_id = asked(topology, "POST", SESSIONS, {"query": "true"}).json()["session_id"]
        eventually(lambda: asked(topology, "GET", f"{SESSIONS}/{session_id}").json()["status"] == "completed")
        seen.add(("worker", asked(topology, "GET", f"{SESSIONS}/{session_id}").json()["worker"]))
        return len(seen) == 2

    eventually(both, 30)
    webs = {f"127.0.0.1:{port}" for name, port in topology.ports.items() if name.startswith("jelmore-api")}
    assert {request["upstream"] for request in topology.requests() if request["path"].startswith(SESSIONS)} >= webs


def use(topology: Topology, over: threading.Event) -> list[tuple[dict[str, Any], str]]:
    """Run one session after the other; return how each was shown at its end, and what it printed."""
    done = []
    while not over.is_set():
        created = asked(topology, "POST", SESSIONS, {"query": TALK})
        assert created.status == 201, created.body
        session_id = created.json()["session_id"]
        reader = Reader(topology.client, session_id)
        given = asked(topology, "POST", f"{SESSIONS}/{session_id}/input", {"input": "it\n"})
        assert given.status in (200, 409), given.body  # it may have ended with its worker by now
        end = reader.finish()
        shown = asked(topology, "GET", f"{SESSIONS}/{session_id}").json()
        assert {name: shown[name] for name in ("status", "reason", "exit_code")} == {
            name: end[name] for name in ("status", "reason", "exit_code")
        }
        output = asked(topology, "GET", f"{SESSIONS}/{session_id}/output").json()["output"]
        assert len(output.encode()) == end["output_bytes"]
        done.append((end, output))
    return done


def test_every_process_is_replaced_under_load_and_nobody_is_refused_or_loses_a_byte(topology: Topology) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(USERS) as pool:
        users = [pool.submit(use, topology, over) for _ in range(USERS)]
        try:
            codes = {(name, topology.restart(name)) for _ in range(ROUNDS) for name in topology.members}
        finally:
            over.set()
        done = [each for user in users for each in user.result()]

    assert codes == {(name, 0) for name in topology.members}
    assert len(done) > USERS
    for end, output in done:
        assert (end["status"], end["reason"]) in ENDS
        assert WHOLE.startswith(output.removesuffix("Terminated\n"))  # what a shell says that waits for a child
        if end["status"] == "completed":
            assert (output, end["exit_code"]) == (WHOLE, 0)
    assert any(end["status"] == "completed" for end, _ in done)
    asked_for = [request for request in topology.requests() if not request["path"].startswith("/flower")]
    assert [request for request in asked_for if request["status"] >= 500 and request["status"] != 503] == []
    live = asked(topology, "GET", f"{SESSIONS}?status=active").json()
    assert live == []
    eventually(lambda: topology.service.leftovers() == [])
