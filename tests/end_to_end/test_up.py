"""`jelmore up`, as somebody at a keyboard has it: one command, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jelmore.embedded.server import free_port
from tests.checks import eventually
from tests.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = (sys.executable, "-m", "jelmore", "up")
READY_SECONDS = 90
DEAF = "trap '' TERM; while :; do echo x; sleep 0.2; done"


class Up:
    """One `jelmore up` in a home."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self.port = int(env.get("PORT") or free_port())
        self.log = home.parent / f"{home.name}.log"
        self.env = {"PATH": os.defpath, "HOME": str(home.parent), "JELMORE_HOME": str(home), "API_HOST": "127.0.0.1"}
        self.env |= {"PORT": str(self.port), "LEASE_SECONDS": "3", "LEASE_RENEWAL_SECONDS": "0.6"} | env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Up:
        """Start, and wait until it says that it runs."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(COMMAND, env=self.env, stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: "Jelmore is running" in self.said() or self.process.poll() is not None, READY_SECONDS)  # type: ignore[union-attr]
        assert "Jelmore is running" in self.said(), self.said()
        return self

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGINT) -> float:
        """Stop it; return how many seconds it took."""
        assert self.process is not None
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return time.monotonic() - start

    @property
    def key(self) -> str:
        return (self.home / "api_key").read_text().strip()

    @property
    def client(self) -> Client:
        return Client(self.port, self.key)

    def processes(self) -> list[str]:
        """Return the command lines of everything that carries this home in its environment or command line."""
        return running_with(str(self.home))


def running_with(home: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if home.encode() in words:
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "home")
    yield started
    if started.process is not None and started.process.poll() is None:
        started.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that runs for all who only look at it."""
    started = Up(tmp_path_factory.mktemp("standing") / "home").start()
    yield started
    started.stop(signal.SIGTERM)


def refused(env: Mapping[str, str], *words: str) -> str:
    """Run a start that must fail; return its sentence."""
    done = subprocess.run([*COMMAND, *words], env=dict(env), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr


def test_one_command_runs_a_session_and_ctrl_c_ends_everything(up: Up) -> None:
    client = up.start().client
    assert stat.S_IMODE((up.home / "api_key").stat().st_mode) == 0o600
    assert up.key in up.said()
    finished = client.create("echo hello; exit 3")
    last = client.events(finished)[-1]
    running = [client.create(DEAF), client.create("sleep 300")]
    eventually(lambda: all(client.get(each)["status"] == "active" for each in running))
    flower, _, task_id = client.get(running[0])["flower_url"].partition("/task/")
    assert task_id == client.get(running[0])["task_id"]
    assert f"(Flower: {flower})" in up.said()

    assert up.stop() < 10
    assert up.process is not None
    assert up.process.returncode == 0
    eventually(lambda: up.processes() == [])

    client = up.start().client  # a second start finds the data of the first
    assert (last.event, client.get(finished)["exit_code"]) == ("terminated", 3)
    assert client.output(finished) == b"hello\n"
    for session_id in running:
        session = client.get(session_id)
        assert (session["status"], session["reason"]) == ("terminated", "worker_shutdown")
    assert up.said().count(up.key) == 0  # shown once


def test_after_everything_was_killed_the_next_start_tells_the_truth(up: Up) -> None:
    client = up.start().client
    session_id = client.create("(env -i setsid sleep 300 &); while :; do echo x; sleep 0.1; done")
    eventually(lambda: client.get(session_id)["output_bytes"] > 4)
    for pid in everything_of(up):
        with suppress(ProcessLookupError):  # it went with one before it
            os.kill(pid, signal.SIGKILL)
    assert up.process is not None
    up.process.wait(5)

    client = up.start().client
    events = client.events(session_id)
    assert events[-1].event == "terminated"
    assert events[-1].data["reason"] == "worker_lost"
    assert client.get(session_id)["status"] == "failed"


def everything_of(up: Up) -> list[int]:
    """Return the pids of `jelmore up` and of all that descends from it."""
    assert up.process is not None
    found, queue = [], [up.process.pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for thread in Path(f"/proc/{pid}/task").glob("*/children"):
            queue += map(int, thread.read_text().split())
    return found


def test_two_homes_run_side_by_side_each_with_keys_and_settings_of_its_own(tmp_path: Path, standing: Up) -> None:
    keys = {"my-own-key": {"permissions": ["read", "write"], "name": "me"}}
    other = Up(tmp_path / "other", API_KEYS=json.dumps(keys), WORKER_SLOTS="1")
    try:
        first, second = standing.client, Client(other.start().port, "my-own-key")
        session_id = first.create("echo mine")
        first.events(session_id)
        one, two = second.create("sleep 300"), second.create("true")
        eventually(lambda: second.get(one)["status"] == "active")

        assert second.request("GET", f"/api/v1/sessions/{session_id}").status == 404
        assert second.get(two)["status"] == "initializing"
        assert second.get(one)["owner"] == "me"
    finally:
        other.stop(signal.SIGTERM)


def test_a_crashed_process_is_started_again(standing: Up) -> None:
    beat = next(int(line) for line in pids_of("tasks.beat", str(standing.home)))
    os.kill(beat, signal.SIGKILL)

    eventually(lambda: "beat ended (exit code -9)" in standing.said())
    eventually(lambda: any(pid != beat for pid in pids_of("tasks.beat", str(standing.home))))
    client = standing.client
    assert client.events(client.create("exit 0"))[-1].data["status"] == "completed"


def pids_of(command: str, home: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and command.encode() in (entry / "cmdline").read_bytes():
                found += [int(entry.name)] if home.encode() in (entry / "environ").read_bytes() else []
        except OSError:
            continue
    return found


def test_a_port_in_use_is_a_sentence_and_nothing_is_left_running(tmp_path: Path) -> None:
    up = Up(tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refused(up.env | {"PORT": str(taken.getsockname()[1])})

    assert re.search(r"port \d+ is in use.*--port", said)
    assert up.processes() == []


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null/home"])
def test_a_home_that_cannot_be_written_is_a_sentence(home: str) -> None:
    assert "not writable" in refused({"PATH": os.defpath}, "--home", home)


def test_a_faulty_configuration_is_told_before_anything_is_started(tmp_path: Path) -> None:
    up = Up(tmp_path / "home", WORKER_SLOTS="many", API_KEYS="{")
    said = refused(up.env)

    assert "WORKER_SLOTS" in said
    assert "API_KEYS" in said
    assert up.processes() == []


def test_a_database_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    up = Up(tmp_path / "home", DATABASE_URL=f"postgresql://u:hush@127.0.0.1:{free_port()}/d")
    said = refused(up.env)

    assert "does not answer" in said
    assert "hush" not in said
    assert up.processes() == []


def test_a_second_start_in_a_home_is_refused(standing: Up) -> None:
    assert "is running in" in refused(standing.env | {"PORT": str(free_port())})
