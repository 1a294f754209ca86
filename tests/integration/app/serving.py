"""The web tier as a process, and a client of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx2

from core.settings import environment
from tests.leaks import KNOWN, refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START_SECONDS = 20


class Gunicorn:
    """A web process as it is run, its address, and its end."""

    def __init__(self, variables: dict[str, str], log: Path, *, config: str = os.devnull) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-c", config, "-b", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(
            [*command, "--no-control-socket", "app:create_app()"],
            env={**environment(), **variables, "LOG_LEVEL": "DEBUG"},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.log = log
        KNOWN.know_settings(variables)

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx2.get(f"{self.url}/health/live").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        refuse(KNOWN.in_file(self.log, f"the log {self.log}"))

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what its log says of an event."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Api:
    """A client with a key. Paths are below /api/v1."""

    def __init__(self, client: httpx2.Client, key: str = "ada-key") -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {key}"}

    def as_(self, key: str) -> Api:
        return Api(self.client, key)

    def call(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        answer = self.client.request(method, f"/api/v1{path}", headers=headers, **more)
        KNOWN.know_exchange(more.get("json"), answer.content)
        return answer

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx2.Response:
        return self.call("POST", path, json=body, **more)

    def delete(self, path: str, **more: Any) -> httpx2.Response:
        return self.call("DELETE", path, **more)

    def create(self, **body: Any) -> UUID:
        answer = self.post("/sessions", {"query": "true", **body})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["session_id"])


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition, at most so long."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        pause.wait(0.05)
