"""A WebSocket as a client would use it, by a library of its own; and one that says whatever bytes it is told to."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import websocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from tests.integration.app.serving import Api

PATIENCE_SECONDS: Final = 15.0
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


class Talk:
    """An open WebSocket that says and hears JSON."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self.connection = connection
        self.code: int | None = None
        self.pings = 0

    def say(self, **members: Any) -> None:
        self.connection.send(json.dumps(members))

    def frame(self) -> tuple[int, bytes]:
        """Return the next frame: its kind and payload. Answers pings."""
        opcode, payload = self.connection.recv_data(control_frame=True)
        if opcode == PING:
            self.pings += 1
        if opcode == CLOSE:
            self.code = struct.unpack("!H", payload[:2])[0] if payload else 1005
        return opcode, payload

    def text(self) -> str | None:
        """Return the next message; None at the close."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                return None
            if opcode == TEXT:
                return payload.decode()

    def hear(self) -> dict[str, Any]:
        """Return the next message."""
        text = self.text()
        assert text is not None, f"closed with {self.code}"
        heard: dict[str, Any] = json.loads(text)
        return heard

    def until(self, event: str) -> list[dict[str, Any]]:
        """Return the messages up to and with the first of these."""
        heard = [self.hear()]
        while heard[-1]["event"] != event:
            heard.append(self.hear())
        return heard

    def ask(self, **members: Any) -> dict[str, Any]:
        """Say something and return its answer, which has the same id; entries in between are passed over."""
        given = members.setdefault("id", f"q{os.urandom(4).hex()}")
        self.say(**members)
        while True:
            heard = self.hear()
            if heard.get("id") == given:
                return heard

    def rest(self) -> list[dict[str, Any]]:
        """Return what comes until the close."""
        heard = []
        while (text := self.text()) is not None:
            heard.append(json.loads(text))
        return heard


@contextmanager
def talking(api: Api, session_id: UUID | str, query: str = "", **options: Any) -> Iterator[Talk]:
    """Open a WebSocket as a program does: the key in the header. `options`: those of websocket-client."""
    base = urlsplit(str(api.client.base_url))
    options.setdefault("header", dict(api.headers))
    options.setdefault("subprotocols", ["jelmore.v1"])
    options.setdefault("suppress_origin", True)
    connection = websocket.create_connection(
        f"ws://{base.netloc}/api/v1/sessions/{session_id}/ws{query}", timeout=PATIENCE_SECONDS, **options
    )
    try:
        yield Talk(connection)
    finally:
        connection.shutdown()  # type: ignore[no-untyped-call]


def refused(api: Api, session_id: UUID | str, query: str = "", **options: Any) -> tuple[int, dict[str, Any]]:
    """Return status and body of a handshake that fails."""
    try:
        with talking(api, session_id, query, **options):
            raise AssertionError("it was opened")
    except websocket.WebSocketBadStatusException as answer:
        body: dict[str, Any] = json.loads(answer.resp_body or b"{}")
        return answer.status_code, body


HANDSHAKE: Final = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    "Sec-WebSocket-Protocol": "jelmore.v1",
    "Authorization": "Bearer ada-key",
}


class Raw:
    """A connection that may break every rule."""

    def __init__(self, api: Api, session_id: UUID | str, *, line: str | None = None, **headers: str | None) -> None:
        base = urlsplit(str(api.client.base_url))
        assert base.hostname is not None
        self.connection = socket.create_connection((base.hostname, base.port or 80), timeout=PATIENCE_SECONDS)
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in {**HANDSHAKE, **changed}.items() if value is not None}
        head = line or f"GET /api/v1/sessions/{session_id}/ws HTTP/1.1"
        lines = [head, *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        self.connection.sendall("\r\n".join(lines).encode("latin-1"))
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._more()
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.status = int(self.head.split(b" ")[1])

    def body(self) -> bytes:
        """Return the body of an answer that is no upgrade."""
        headers = dict(line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:])
        size = int(next(value for name, value in headers.items() if name.lower() == b"content-length"))
        while len(self._buffer) < size:
            self._buffer += self._more()
        return self._buffer[:size]

    def _more(self) -> bytes:
        return self.connection.recv(65536)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def frame(self) -> tuple[int, bytes] | None:
        """Return the next frame; None when the connection is closed."""
        while True:
            if len(self._buffer) >= 2:
                size, start = self._buffer[1] & 0x7F, 2
                if size == 126:
                    size, start = int.from_bytes(self._buffer[2:4]), 4
                elif size == 127:
                    size, start = int.from_bytes(self._buffer[2:10]), 10
                if len(self._buffer) >= start + size:
                    kind, payload = self._buffer[0] & 0xF, self._buffer[start : start + size]
                    self._buffer = self._buffer[start + size :]
                    return kind, payload
            try:
                more = self._more()
            except ConnectionError:
                return None
            if not more:
                return None
            self._buffer += more

    def close_code(self) -> int | None:
        """Return the code the other side closes with; None if it just goes."""
        while (frame := self.frame()) is not None:
            if frame[0] == CLOSE:
                return int.from_bytes(frame[1][:2])
        return None

    def shut(self) -> None:
        self.connection.close()


def masked(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, length: int | None = None) -> bytes:
    """Return a client's frame; `length`: what it says of itself, right or not."""
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0x80 | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, 0x80 | 127)) + size.to_bytes(8)
    mask = b"\x01\x02\x03\x04"
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
