"""A WebSocket as a client reads it, through whatever stands before the service; bytes by wsproto, waits bounded."""

from __future__ import annotations

import json
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from jelmore.doctor.facts import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsproto.events import Event

    from jelmore.doctor.seen import Seen

CONNECT_SECONDS: Final = 10.0
READ_BYTES: Final = 64 * 1024
LARGEST_BODY: Final = 64 * 1024


class Wire:
    """One connection. `read` runs in a thread of its own; `hang_up` ends it from another."""

    def __init__(self, seen: Seen, silence_seconds: float) -> None:
        self._seen = seen
        self._silence_seconds = silence_seconds
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._socket: socket.socket | None = None
        self._refused = b""
        self._status: int | None = None
        self._message = ""
        self._over = False

    def read(self, url: str, key: str) -> None:
        """Open it and note what comes, until it is closed."""
        try:
            self._open(url, key)
            while not self._over:
                self._take()
        except (OSError, ProtocolError) as fault:
            self._seen.close(broke=str(fault) or type(fault).__name__)
        finally:
            if self._seen.closed_at is None:
                self._seen.close(refusal=self._refusal())
            if self._socket is not None:
                self._socket.close()

    def hang_up(self) -> None:
        """Close it."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed

    def _open(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = parts.hostname or "localhost"
        plain = socket.create_connection((host, parts.port or (443 if secure else 80)), timeout=CONNECT_SECONDS)
        plain.settimeout(self._silence_seconds)
        self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain
        asked = Request(
            host=parts.netloc.rpartition("@")[2],
            target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            subprotocols=["jelmore.v1"],
            extra_headers=[(b"authorization", f"Bearer {key}".encode())],
        )
        self._socket.sendall(self._protocol.send(asked))

    def _take(self) -> None:
        assert self._socket is not None
        data = self._socket.recv(READ_BYTES)
        if not data:
            if self._seen.first_at is None and self._status is None:
                raise ConnectionError("the connection was closed during the handshake")
            self._over = True
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self._status = 101
            case RejectConnection(status_code=status, has_body=has_body):
                self._status = status
                self._over = not has_body
            case RejectData(data=data, body_finished=finished):
                self._refused += data
                self._over = finished or len(self._refused) > LARGEST_BODY
            case Ping():
                self._send(event.response())
                self._seen.sign()
            case TextMessage(data=text, message_finished=finished):
                self._message += text
                if finished:
                    self._hear(self._message)
                    self._message = ""
            case CloseConnection():
                self._send(event.response())
                self._over = True

    def _send(self, event: Event) -> None:
        assert self._socket is not None
        self._socket.sendall(self._protocol.send(event))

    def _hear(self, message: str) -> None:
        said = json_object(message)
        self._seen.event(str(said.get("event")), str(said.get("content", "")))

    def _refusal(self) -> Refusal | None:
        if self._status in (None, 101):
            return None
        return refusal(self._status or 0, self._refused, {})


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """Return what an answer says that is an error; without a code of ours it is somebody else's."""
    said = json_object(body)
    code = said.get("error_code")
    return Refusal(
        status,
        code if isinstance(code, str) else None,
        str(said.get("detail") or body[:200].decode(errors="replace")).rstrip("."),
        headers.get("retry-after"),
    )


def json_object(text: str | bytes) -> dict[str, object]:
    """Return a JSON object; an empty one for what is none."""
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
