"""Bytes that no client should send, and what comes back, read strictly: an answer too many or too few is out of step."""

from __future__ import annotations

import json
import re
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.integration.app.serving import Gunicorn

PATIENCE_SECONDS: Final = 8.0
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
NEXT_ID: Final = "what-follows"
NEXT: Final = f"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: {NEXT_ID}\r\n\r\n".encode()
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST instead of FIN."""


@dataclass(frozen=True)
class Told:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_next(self) -> bool:
        """Whether it answers what was sent behind the bytes under test."""
        return self.headers.get("x-request-id") == NEXT_ID

    @property
    def code(self) -> str | None:
        """Return the error code, having checked the one shape of errors; None for what is no error or has no body."""
        if self.status < 400 or not self.body:
            return None
        assert self.headers["content-type"] == "application/json"
        error: dict[str, Any] = json.loads(self.body)
        assert {"detail", "error_code", "timestamp"} <= set(error) <= {"detail", "error_code", "timestamp", "errors"}
        return str(error["error_code"])


def exchange(port: int, sent: bytes, *, head: bool = False) -> tuple[list[Told], bool]:
    """Send bytes and, right behind them, a decent request; return all answers and whether the connection was closed.

    `head`: the first answer has no body, whatever it says of its length.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        with suppress(OSError):  # it may be closed before all is sent
            connection.sendall(sent + NEXT)
        return read_answers(connection, head=head)


def read_answers(connection: socket.socket, *, head: bool = False) -> tuple[list[Told], bool]:
    """Read answers up to that to `NEXT`, or to the end of the connection."""
    said = b""
    told: list[Told] = []
    while True:
        while (answer := _answer(said, without_body=head and not told)) is not None:
            found, said = answer
            if found.status != 100:  # go on, send your body
                told.append(found)
            if found.is_next:
                assert said == b"", f"more than was asked for: {said[:200]!r}"
                return told, False
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            assert said == b"", f"half an answer: {said[:200]!r}"
            return told, True
        said += piece


def _answer(said: bytes, *, without_body: bool) -> tuple[Told, bytes] | None:
    """Return the first whole answer and what is behind it."""
    head, end, rest = said.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    line = STATUS_LINE.match(first)
    assert line is not None, f"no answer begins like this: {said[:200]!r}"
    pairs = [line.decode("latin-1").partition(":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    status = int(line[1])
    size = 0 if without_body or status in (100, 204) else int(headers.get("content-length", 0))
    assert "transfer-encoding" not in headers
    if len(rest) < size:
        return None
    return Told(status, headers, rest[:size]), rest[size:]


def worker_of(gunicorn: Gunicorn) -> int:
    """Return the pid of the one process that answers."""
    (worker,) = Path(f"/proc/{gunicorn.process.pid}/task/{gunicorn.process.pid}/children").read_text().split()
    return int(worker)


def memory_mib(pid: int) -> float:
    """Return what a process has in memory."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def errors_in(log: Path) -> list[str]:
    """Return what a process has logged of its own mistakes."""
    return [
        line for line in log.read_text(errors="replace").splitlines() if re.search(r'"level":"(error|critical)"', line)
    ]
