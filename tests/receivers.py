"""A receiver of webhooks for tests: a real HTTP server, on addresses that are private, that behaves as it is told."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from standardwebhooks import Webhook

from jelmore.embedded.server import free_port
from tests.checks import wait

if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED: Final = "127.0.0.2"
"""Where receivers listen; everything else that is private is forbidden to deliveries."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came. `body` is what its JSON says."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> dict[str, Any]:
        """Return what it says, if its signature is good: by the public library."""
        found: dict[str, Any] = Webhook(secret).verify(self.raw, self.headers)
        return found


@dataclass
class Receiver:
    """Answers 200, or by path: /hang, /status/503, /retry-after/SECONDS, /redirect?URL, /slow/SECONDS, /drip, /gone.

    `behave`: what else to do with a request; its status, if it says one.
    """

    host: str = ALLOWED
    port: int = field(default_factory=free_port)
    received: list[Received] = field(default_factory=list)
    behave: Callable[[Received], int | None] | None = None
    _server: ThreadingHTTPServer | None = None

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}:{self.port}{path}"

    def up(self) -> None:
        """Listen; what was received before stays."""
        receiver = self
        self._released = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer((self.host, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def of(self, path: str) -> list[Received]:
        """Return what came to a path."""
        return [each for each in self.received if each.path == path]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in request.headers.items()}
        came = Received(request.path, headers, raw)
        self.received.append(came)
        status, more = self._status(came)
        request.send_response(status)
        for name, value in more.items():
            request.send_header(name, value)
        request.end_headers()

    def _status(self, came: Received) -> tuple[int, dict[str, str]]:
        told = self.behave(came) if self.behave is not None else None
        if told is not None:
            return told, {}
        word, _, rest = came.path.removeprefix("/").partition("/")
        if word == "hang":
            self._released.wait(60)
        if word == "slow":
            wait(float(rest))
        if word == "retry-after":
            return 503, {"Retry-After": rest}
        if came.path.startswith("/redirect?"):
            return 307, {"Location": came.path.partition("?")[2]}
        return (int(rest) if word == "status" else 410 if word == "gone" else 200), {}
