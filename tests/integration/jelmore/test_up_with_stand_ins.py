"""How `jelmore up` treats its processes, tried with small ones instead of Jelmore's own: it starts, restarts and ends them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.exceptions import RedisError

from jelmore.embedded.server import free_port
from jelmore.home import Home
from jelmore.processes import start_mark
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LAUNCH = """
import sys
from pathlib import Path
from core.settings import environment
from jelmore.console import Console
from jelmore.home import CannotStart
from jelmore.up import Up
try:
    Up(environment(), Console(), Path(sys.argv[1]).read_text()).run()
except CannotStart as why:
    sys.exit(str(why))
"""
WEB = """
import http.server, os, signal, sys
class Alive(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
if os.environ.get("DEAF"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Alive).serve_forever()
"""
ELSEWHERE = {
    "DATABASE_URL": "postgresql://elsewhere/d",
    "REDIS_URL": "redis://elsewhere",
    "NATS_URL": "nats://elsewhere",
}


class StandIns:
    """One `jelmore up` with a Procfile of the test's own; no servers unless asked for."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home of it"
        self.log = directory / "log"
        (directory / "web.py").write_text(WEB)
        self.web = shlex.join([sys.executable, str(directory / "web.py")])
        self.procfile = directory / "Procfile"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, lines: str, env: Mapping[str, str], stdout: int | None = None) -> subprocess.Popen[bytes]:
        self.procfile.write_text(f"web: {self.web}\n{lines}\n")
        env = {
            "PATH": os.defpath,
            "JELMORE_HOME": str(self.home),
            "API_PORT": str(free_port()),
            **ELSEWHERE,
            **env,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(self.procfile)], env=env, stdout=stdout or log, stderr=log
            )
        return self.process

    def started(self, lines: str = "", **env: str) -> subprocess.Popen[bytes]:
        process = self.start(lines, env)
        eventually(lambda: "Jelmore is running" in self.said(), 30)
        return process

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def pid_of(self, name: str) -> int:
        return next(noted.pid for noted in Home(self.home).noted() if noted.name == name and noted.is_running())

    def left(self) -> list[str]:
        """Return what still runs of all that was ever started in the home."""
        return [line for pid in _pids() if str(self.home) in (line := _environment_of(pid))]


def _pids() -> list[str]:
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment_of(pid: str) -> str:
    try:
        return Path("/proc", pid, "environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[StandIns]:
    made = StandIns(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(15)
    eventually(lambda: made.left() == [])


def timed(leave: Callable[[], object], process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    leave()
    process.wait(20)
    return time.monotonic() - began


def test_each_process_gets_what_it_needs_in_its_environment(up: StandIns) -> None:
    up.started("worker: sh -c 'env; cat'")

    lines = up.said()
    assert f"JELMORE_HOME={up.home}" in lines
    assert f'SESSION_ROOTS=["{Path.cwd()}"]' in lines
    assert "DEFAULT_PROGRAM=shell" in lines
    assert "WORKER_DRAIN_SECONDS=4" in lines
    assert "PROMETHEUS_MULTIPROC_DIR" not in lines  # the web tier's alone


def test_what_never_comes_up_is_told_and_everything_ends(up: StandIns) -> None:
    process = up.start("beat: sh -c 'echo no way; exit 3'", {})

    assert process.wait(40) == 1
    assert "The beat process does not come up: it ended 5 times in a row, the last time with exit code 3" in up.said()
    assert up.left() == []


def test_deaf_processes_do_not_delay_the_end_beyond_ten_seconds(up: StandIns) -> None:
    deaf = "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'"
    process = up.started(f"worker: {deaf}\nmirror: {deaf}", DEAF="yes")

    assert timed(process.terminate, process) < 10
    assert process.returncode == 0


def test_a_second_ctrl_c_has_no_patience(up: StandIns) -> None:
    process = up.started("worker: sh -c 'trap \"echo told\" TERM; while :; do sleep 0.1; done'")
    process.send_signal(signal.SIGINT)
    eventually(lambda: "told" in up.said())

    assert timed(lambda: process.send_signal(signal.SIGINT), process) < 2


def test_workers_are_gone_before_the_web_is_told(up: StandIns) -> None:
    process = up.started("worker: sh -c 'trap \"sleep 1; echo worker left; exit\" TERM; while :; do sleep 0.1; done'\n"
                         "mirror: sh -c 'trap \"echo mirror told; exit\" TERM; while :; do sleep 0.1; done'")  # fmt: skip
    process.terminate()
    process.wait(15)

    assert up.said().index("worker left") < up.said().index("mirror told")


def test_a_closed_terminal_ends_it(up: StandIns) -> None:
    process = up.started()
    process.send_signal(signal.SIGHUP)

    assert process.wait(15) == 0


def test_a_reader_that_goes_away_ends_it_and_blocks_nobody(up: StandIns) -> None:
    process = up.start("worker: sh -c 'while :; do echo more; done'", {}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()

    process.wait(15)


def test_nothing_survives_the_kill_of_jelmore_up(up: StandIns) -> None:
    process = up.started("worker: sleep 300")
    process.kill()
    process.wait(5)

    eventually(lambda: up.left() == [])


def test_the_next_start_ends_what_a_killed_one_left(up: StandIns) -> None:
    deaf = "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'"
    up.started(f"worker: {deaf}").kill()
    left = up.pid_of("worker")
    up.log.write_text("")
    up.started("worker: sleep 300", API_PORT=str(free_port()))

    assert up.pid_of("worker") != left
    assert start_mark(left) is None


def test_a_killed_server_comes_back_at_its_address_with_its_data(up: StandIns) -> None:
    up.started("worker: sh -c 'echo at $REDIS_URL; sleep 300'", REDIS_URL="")
    url = eventually(lambda: re.search(r"at (redis://\S+)", up.said()))[1]
    redis = Redis.from_url(url)
    redis.set("kept", "yes")
    first = up.pid_of("valkey")
    os.kill(first, signal.SIGKILL)

    eventually(lambda: "Valkey ended (exit code -9)" in up.said())
    eventually(lambda: answers(redis))
    assert redis.get("kept") == b"yes"
    eventually(lambda: up.pid_of("valkey") != first)


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
