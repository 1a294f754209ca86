"""The service against its own description: requests that are right and wrong, made up by schemathesis, and every answer checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
import pytest
import websocket

from tests.checks import eventually
from tests.service import ADA, ADMIN, FULL_LENGTH, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.client import Client
from tests.service import Service

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
CASES: Final = re.compile(r"(\d+) generated")
EXAMPLES: Final = 40 if FULL_LENGTH else 8
"""Of each operation, in each phase that makes them up; the phase that covers every limit makes as many as there are."""
OF_A_TENANT: Final = () if FULL_LENGTH else ("--phases", "fuzzing,stateful")
"""What no schema allows is refused to an administrator, who may do everything, as to everybody: once is enough on each change."""


RUN_SECONDS: Final = 1200 if FULL_LENGTH else 120
HEADERS: Final = """
headers = {{ Authorization = "Bearer {}" }}
"""
PINNED: Final = """
[[operations]]
include-operation-id = "{0}"
parameters = {{ session_id = "{1}" }}"""
ON_ENDED: Final = ("stream_session", "wait")
SAID: Final[list[tuple[dict[str, Any], bool]]] = [
    ({"type": "subscribe"}, True),
    ({"type": "ping", "id": "1"}, True),
    ({"type": "get_status"}, True),
    ({"type": "resize", "rows": 0, "cols": 1}, False),
    ({"type": "ping", "more": 1}, False),
    ({"type": "input"}, False),
    ({"type": "signal", "signal": "nothing"}, False),
    ({"type": "resize", "rows": 50, "cols": 132, "id": "2"}, True),
    ({"type": "signal", "signal": "WINCH"}, True),
    ({"type": "input", "content": "hello", "id": "3"}, True),
    ({"type": "answer", "request_id": "x", "decision": "allow"}, False),
    ({"type": "eof"}, True),
]
ON_LIVE: Final = ("end_input", "extend", "interrupt", "resize", "send_signal")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    settings = {
        "PROGRAMS_ENABLED": "echo,cat",
        "DEFAULT_PROGRAM": "echo",
        "MAX_CONCURRENT_SESSIONS": "100000",
        "HEARTBEAT_SECONDS": "0.2",
        "WORKER_SLOTS": "500",
    }
    with installed(tmp_path_factory.mktemp("described"), new_database(), **settings) as running:
        running.start("one")
        yield running


def is_started(client: Client, session_id: str) -> bool:
    return client.get(session_id)["started_at"] is not None


def configuration(service: Service, key: str, folder: Path) -> Path:
    """Return the settings of a run: what acts on a live session has one of its own, and nobody waits for those to print."""
    client = service.client(key)
    lines = [HEADERS.format(key), CONFIG.read_text()]  # a command line is everybody's to read
    for operation in ON_LIVE:
        session_id = client.create("live", program="cat", terminal={"rows": 24, "cols": 80})
        eventually(partial(is_started, client, session_id))
        lines += [PINNED.format(operation, session_id)]
        lines += ['checks.positive_data_acceptance.expected-statuses = ["200", "202", "403", "404", "409"]']
    ended = client.create("ended")
    client.events(ended)
    lines += [PINNED.format(operation, ended) for operation in ON_ENDED]
    path = folder / f"{ended}.toml"  # its name is in a command line, too
    path.write_text("\n".join(lines))
    return path


def run(service: Service, key: str, config: Path, *more: str, not_checked: Sequence[str] = ()) -> tuple[int, str]:
    """Return how many cases there were, and what was said of them, if anything failed."""
    at = f"http://127.0.0.1:{service.port}"
    command = [
        *(str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run", f"{at}/api/openapi.json"),
        *("--url", at, "--workers", "2"),
        # DELETE ends a session, and revokes a key; both stay to be read. All other checks hold.
        *("--checks", "all", "--exclude-checks", ",".join((*not_checked, "use_after_free"))),
        *("--continue-on-failure", "--no-color", *more),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False, cwd=service.home)
    counted = CASES.search(done.stdout)
    assert counted, done.stdout + done.stderr[-3000:]
    return int(counted[1]), "" if done.returncode == 0 else done.stdout


@pytest.mark.timeout(3 * RUN_SECONDS)
def test_two_thousand_made_up_requests_are_answered_as_described(service: Service, tmp_path: Path) -> None:
    cases = 0
    for key, phases in ((ADA, OF_A_TENANT), (ADMIN, ())):
        config = configuration(service, key, tmp_path)
        count, faults = run(service, key, config, "--max-examples", str(EXAMPLES), *phases)
        assert not faults, faults
        cases += count

    assert cases >= 2000
    assert service.web.alive
    assert "Traceback" not in service.web.said()


@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
def test_messages_on_a_websocket_are_as_described(service: Service, encoding: str) -> None:
    document = service.client(None).request("GET", "/api/openapi.json").json()
    described = document["paths"]["/api/v1/sessions/{session_id}/ws"]["get"]["x-websocket"]
    session_id = service.ada.create("x", program="cat", terminal={"rows": 24, "cols": 80})
    eventually(partial(is_started, service.ada, session_id))
    connection = websocket.create_connection(
        f"ws://127.0.0.1:{service.port}/api/v1/sessions/{session_id}/ws?encoding={encoding}",
        timeout=RUN_SECONDS,
        header=[f"Authorization: Bearer {ADA}"],
        subprotocols=[described["subprotocol"]],
    )

    def faults(side: str, name: str, message: Any) -> list[str]:
        schema = {**described[side][name], "components": document["components"]}
        return [f"{message}: {fault.message}" for fault in jsonschema_rs.validator_for(schema).iter_errors(message)]

    for message, is_right in SAID:
        assert (faults("send", message["type"], message) == []) == is_right
        connection.send(json.dumps(message))
    heard = [json.loads(frame) for frame in iter(connection.recv, "")]
    names = {message["event"] for message in heard}

    wrong = [fault for message in heard for fault in faults("receive", message["event"], message)]
    assert not wrong, "\n".join(wrong)
    assert names >= set(described["receive"]) - {"gap", "restarted", "request", "agent"}
    assert sum(message["event"] == "error" for message in heard) == sum(not is_right for _, is_right in SAID)


@pytest.mark.timeout(3 * RUN_SECONDS)
def test_without_redis_answers_are_as_described(service: Service, tmp_path: Path) -> None:
    config = configuration(service, ADA, tmp_path)
    service.valkey.kill()
    try:
        phases = () if FULL_LENGTH else ("--phases", "fuzzing")
        more = ("--max-examples", "20" if FULL_LENGTH else "8", *phases)
        count, faults = run(service, ADA, config, *more, "--exclude-checks", "positive_data_acceptance")
    finally:
        service.valkey.start()

    assert not faults, faults
    assert count >= 300
    assert service.web.alive
    assert "Traceback" not in service.web.said()
