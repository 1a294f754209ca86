"""A reader like `tests.client.Reader`, over a WebSocket: it comes again behind the last entry whenever the socket breaks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

import websocket

from tests.client import AGAIN_SECONDS, READ_BYTES, SESSIONS, Event, Reader

NORMAL: Final = 1000
SILENT_SECONDS: Final = 5.0


@dataclass
class SocketReader(Reader):
    """Reads a session to its end. `close_code`: with what the service closed the socket that brought the end."""

    close_code: int | None = None

    def _read_once(self) -> None:
        self.connections += 1
        try:
            self._read_socket()
        except websocket.WebSocketBadStatusException as refused:
            if refused.status_code < 500:
                self.faults.append(f"status {refused.status_code} at entry {self.last_id}")
            time.sleep(AGAIN_SECONDS)
        except websocket.WebSocketException as broken:
            raise OSError(str(broken)) from broken

    def _read_socket(self) -> None:
        opened = time.monotonic()
        socket = websocket.create_connection(
            f"ws://127.0.0.1:{self.client.port}{SESSIONS}/{self.session_id}/ws?encoding=base64&after={self.last_id}",
            timeout=SILENT_SECONDS,
            header=[f"Authorization: Bearer {self.client.key}"],
            subprotocols=["jelmore.v1"],
        )
        try:
            since_nap = 0
            while True:
                opcode, payload = socket.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    self.close_code = int.from_bytes(payload[:2], "big")
                    return
                message = json.loads(payload)
                self._take(Event(message.get("seq"), message["event"], message, time.monotonic()))
                since_nap += int(message.get("bytes", 0))
                if self.nap_seconds and since_nap > READ_BYTES:
                    time.sleep(self.nap_seconds)
                    since_nap = 0
                if self.cut_seconds is not None and self.end is None and time.monotonic() - opened > self.cut_seconds:
                    return
        finally:
            socket.close()
