"""One user's connections: requests over one that is kept, streams over one each. Every wait has a limit."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 30.0
"""Longest silence of a service that is there: streams have heartbeats."""
FOLLOWED_SECONDS: Final = 60.0
"""Longest that a stream is followed here."""


class Broken(Exception):
    """Something was not as it was promised."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a request that succeeded."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream."""

    id: str | None
    event: str
    data: dict[str, Any]

    @property
    def content(self) -> bytes:
        return str(self.data["content"]).encode()

    @property
    def offset(self) -> int:
        return int(self.data["offset"])

    def check_offset(self, expected: int) -> None:
        """See that nothing is missing before this, and nothing repeated. Raises Broken."""
        if self.offset != expected:
            raise Broken(f"output at byte {self.offset} instead of {expected}")

    def check_end(self, size: int, sha256: str) -> None:
        """See that what was read is what was printed. Raises Broken."""
        if (self.data["output_bytes"], self.data["output_sha256"]) != (size, sha256):
            raise Broken(f"{size} bytes were read of {self.data['output_bytes']}, or others")


class Connection:
    """Speaks to one service with one key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._kept = self._new()

    def _new(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(self._url.netloc, timeout=SECONDS)

    def close(self) -> None:
        self._kept.close()

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request over the kept connection. Raises Broken, also for every status that is not 2xx."""
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            self._kept.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = self._kept.getresponse()
            answer = Answer(response.status, response.read())
        except (http.client.HTTPException, OSError) as fault:
            self._kept.close()
            raise Broken(repr(fault)) from fault
        if answer.status // 100 != 2:
            raise Broken(f"{answer.status} {answer.body[:200].decode(errors='replace')}")
        return answer

    def quietly(self, method: str, path: str) -> None:
        """Send a request of which nobody wants to know what came of it."""
        with suppress(Broken):
            self.ask(method, path)

    def follow(self, path: str, last: str | None = None) -> Iterator[Told]:
        """Yield a stream's events until it ends. Raises Broken; closes the connection whatever happens."""
        connection, until = self._new(), time.monotonic() + FOLLOWED_SECONDS
        try:
            connection.request("GET", path, headers=self._headers | ({"Last-Event-ID": last} if last else {}))
            response = connection.getresponse()
            if response.status != 200:
                raise Broken(f"{response.status} {response.read(200).decode(errors='replace')}")
            buffer = b""
            while chunk := response.read1(65536):
                *blocks, buffer = (buffer + chunk).split(b"\n\n")
                yield from filter(None, map(told, blocks))
                if time.monotonic() > until:
                    raise Broken(f"a stream that should have ended has not after {FOLLOWED_SECONDS:g} s")
        except (http.client.HTTPException, OSError) as fault:
            raise Broken(repr(fault)) from fault
        finally:
            connection.close()


def told(block: bytes) -> Told | None:
    """Return the event of a block of lines; None for comments and `retry`."""
    lines = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
    if b"data" not in lines:
        return None
    seq = lines.get(b"id")
    return Told(seq.decode() if seq else None, lines.get(b"event", b"message").decode(), json.loads(lines[b"data"]))
