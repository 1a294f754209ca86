"""A small client with little of its own to wait for: one connection, lines as they come, the clock read at once."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any

from benchmarks.arms import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.arms import Arm

TIMEOUT_SECONDS = 60
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


class Client:
    """One keep-alive connection to an arm."""

    def __init__(self, arm: Arm) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=TIMEOUT_SECONDS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST and return the answer's body; anything but a 2xx is an error."""
        self._connection.request("POST", f"/api/v1/sessions{path}", json.dumps(body), HEADERS)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{answer.status}: {text[:200]!r}")
        parsed: dict[str, Any] = json.loads(text)
        return parsed

    def create(self, query: str) -> str:
        """Create a session; return its id."""
        session_id: str = self.post("", {"query": query})["session_id"]
        return session_id

    def delete(self, session_id: str) -> None:
        """End a session."""
        self._connection.request("DELETE", f"/api/v1/sessions/{session_id}", headers=HEADERS)
        self._connection.getresponse().read()


def follow(arm: Arm, session_id: str) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yield (event, data, monotonic nanoseconds at which it was read) until the stream ends."""
    connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=TIMEOUT_SECONDS)
    connection.request("GET", f"/api/v1/sessions/{session_id}/stream", headers=HEADERS)
    answer = connection.getresponse()
    event = ""
    for raw in answer:
        at = time.monotonic_ns()
        if raw.startswith(b"event: "):
            event = raw[7:].strip().decode()
        elif raw.startswith(b"data: "):
            yield event, json.loads(raw[6:]), at
    connection.close()
