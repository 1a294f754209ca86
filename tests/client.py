"""A client of the HTTP interface as a user would write it: JSON requests, and Server-Sent Events with resume.

Every read has a time-out: a service that hangs is a failure, not a pause. Nothing here knows the service's inside.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.leaks import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from types import TracebackType
    from typing import Self

TIMEOUT_SECONDS: Final = 15.0
STREAM_TIMEOUT_SECONDS: Final = 20.0
STREAM_LIMIT_SECONDS: Final = 90.0
READ_BYTES: Final = 64 * 1024
AGAIN_SECONDS: Final = 0.05
SESSIONS: Final = "/api/v1/sessions"
BROKEN = (OSError, http.client.HTTPException)
"""What a connection does that was cut: by us, or because the web process was killed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `at`: when it was read, monotonic seconds."""

    id: int | None
    event: str
    data: dict[str, Any]
    at: float

    @property
    def content(self) -> bytes:
        """The bytes of an `output` event."""
        if "content_base64" in self.data:
            return base64.b64decode(self.data["content_base64"])
        return str(self.data["content"]).encode()


class Stream:
    """An open stream; iterating yields its events until the service closes it, or fails: heartbeats are no news."""

    def __init__(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, limit_seconds: float
    ) -> None:
        self._connection = connection
        self._limit_seconds = limit_seconds
        self._give_up = time.monotonic() + limit_seconds
        self._response = response
        self.status = response.status
        self.headers: Message = response.headers

    def __iter__(self) -> Iterator[Event]:
        buffer = b""
        while chunk := self._response.read1(READ_BYTES):
            assert time.monotonic() < self._give_up, f"no end of the stream within {self._limit_seconds:g} s"
            *blocks, buffer = (buffer + chunk).split(b"\n\n")
            for block in blocks:
                event = _parse(block)
                if event is not None:
                    yield event
        if buffer:
            raise ConnectionError(f"the stream broke off within an event: {buffer[:200]!r}")

    def until(self, kind: str) -> list[Event]:
        """Read up to and with the first event of a kind."""
        events = []
        for event in self:
            events.append(event)
            if event.event == kind:
                return events
        raise AssertionError(f"the stream ended without {kind}: {[event.event for event in events]}")

    def raw(self) -> bytes:
        """Return what is still to come, to its close, comments and `retry` too."""
        return self._response.read()

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _parse(block: bytes) -> Event | None:
    """Return the event of a block of lines; None for comments and `retry`."""
    seq, kind, payload = None, "message", None
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"id":
            seq = int(value)
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            payload = value
    return None if payload is None else Event(seq, kind, json.loads(payload), time.monotonic())


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks to one service with one key."""

    port: int
    key: str | None

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """Send one request; `body` is sent as JSON, bytes as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, sent, self._headers(sent is not None, headers or {}))
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
            KNOWN.know_exchange(body, answer.body)
            return answer
        finally:
            connection.close()

    def _headers(self, with_body: bool, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key is not None else {}
        if with_body:
            headers["Content-Type"] = "application/json"
        return headers | dict(more)

    def create(self, query: str, **fields: Any) -> str:
        """Create a session and return its id."""
        answer = self.request("POST", SESSIONS, {"query": query, **fields})
        assert answer.status == 201, answer.body
        return str(answer.json()["session_id"])

    def get(self, session_id: str) -> dict[str, Any]:
        answer = self.request("GET", f"{SESSIONS}/{session_id}")
        assert answer.status == 200, answer.body
        shown: dict[str, Any] = answer.json()
        return shown

    def status(self, session_id: str) -> str:
        return str(self.get(session_id)["status"])

    def delete(self, session_id: str, query: str = "", *, timeout: float = 40.0) -> Answer:
        return self.request("DELETE", f"{SESSIONS}/{session_id}{query}", timeout=timeout)

    def input(self, session_id: str, text: str, **fields: Any) -> Answer:
        return self.request("POST", f"{SESSIONS}/{session_id}/input", {"input": text, **fields})

    def output(self, session_id: str) -> bytes:
        """Return all output as the exact bytes."""
        answer = self.request("GET", f"{SESSIONS}/{session_id}/output", headers={"Accept": "text/plain"}, timeout=60)
        assert answer.status == 200, answer.body
        return answer.body

    def follow(
        self,
        session_id: str,
        query: str = "",
        *,
        last_event_id: int | None = None,
        timeout: float = STREAM_TIMEOUT_SECONDS,
        limit_seconds: float = STREAM_LIMIT_SECONDS,
    ) -> Stream:
        """Open a stream. `timeout`: seconds without a byte; `limit_seconds`: in all."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        try:
            connection.request(
                "GET", f"{SESSIONS}/{session_id}/stream{query}", headers=self._headers(with_body=False, more=headers)
            )
            return Stream(connection, connection.getresponse(), limit_seconds)
        except BROKEN:
            connection.close()
            raise

    def events(self, session_id: str, query: str = "", *, last_event_id: int | None = None) -> list[Event]:
        """Return a whole stream, to its close."""
        with self.follow(session_id, query, last_event_id=last_event_id) as stream:
            assert stream.status == 200, stream.status
            return list(stream)


@dataclass
class Reader:
    """Reads a session to its end in a thread, coming again with the last id whenever the connection breaks.

    `nap_seconds`: slept after every 64 KiB or so, a slow reader. `cut_seconds`: how long a connection is kept before it is cut.
    """

    client: Client
    session_id: str
    nap_seconds: float = 0.0
    cut_seconds: float | None = None
    limit_seconds: float = 60.0
    last_id: int = 0
    size: int = 0
    connections: int = 0
    faults: list[str] = field(default_factory=list)
    end: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self._give_up = time.monotonic() + self.limit_seconds
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def finish(self) -> dict[str, Any]:
        """Wait for the end and return `terminated`, having checked that what came is what it says."""
        self._thread.join(self.limit_seconds + 5)
        assert self.faults == []
        assert self.end is not None, f"no end after {self.limit_seconds} s, at entry {self.last_id}, byte {self.size}"
        assert (self.size, self.sha256) == (self.end["output_bytes"], self.end["output_sha256"])
        return self.end

    def _read(self) -> None:
        while self.end is None and not self.faults and time.monotonic() < self._give_up:
            try:
                self._read_once()
            except BROKEN:
                time.sleep(AGAIN_SECONDS)

    def _read_once(self) -> None:
        self.connections += 1
        opened = time.monotonic()
        query = "?encoding=base64"
        with self.client.follow(
            self.session_id, query, last_event_id=self.last_id or None, timeout=5, limit_seconds=self.limit_seconds
        ) as stream:
            if stream.status != 200:
                if stream.status < 500:
                    self.faults.append(f"status {stream.status} at entry {self.last_id}")
                time.sleep(AGAIN_SECONDS)
                return
            since_nap = 0
            for event in stream:
                self._take(event)
                since_nap += int(event.data.get("bytes", 0))
                if self.nap_seconds and since_nap > READ_BYTES:
                    time.sleep(self.nap_seconds)
                    since_nap = 0
                if self.cut_seconds is not None and time.monotonic() - opened > self.cut_seconds:
                    return

    def _take(self, event: Event) -> None:
        if event.id is None:
            if event.event == "stream_error":
                raise OSError(event.data["error_code"])
            return
        if event.id != self.last_id + 1:
            self.faults.append(f"entry {event.id} after {self.last_id} ({event.event})")
        self.last_id = event.id
        if event.event == "output":
            content = event.content
            if event.data["offset"] != self.size:
                self.faults.append(f"offset {event.data['offset']} after {self.size} bytes")
            self.size += len(content)
            self._digest.update(content)
        elif event.event == "terminated":
            self.end = event.data
