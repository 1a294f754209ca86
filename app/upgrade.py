"""Opening WebSockets under gunicorn: the checks before the handshake, and the handshake.

flask-sock does the handshake and nothing else: its own threads send a frame in part to a slow reader, write pongs into the
middle of it, and take messages of any size; and what a route raises would be written into the stream as HTTP. So everything that
can be refused is refused before, as any request is, and from then on the socket is ours (`app.sockets`).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import g, request
from flask_sock import Sock
from simple_websocket import ConnectionError as NotShaken

from app.detached import Handled
from core.errors import HandshakeFaulty

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint, Response
    from flask.blueprints import BlueprintSetupState
    from wsproto import WSConnection

log = structlog.get_logger(__name__)

SUBPROTOCOL: Final = "jelmore.v1"
VERSION: Final = "13"
KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
NEEDED: Final = frozenset(
    {
        *("HTTP_HOST", "HTTP_UPGRADE", "HTTP_CONNECTION"),
        *("HTTP_SEC_WEBSOCKET_KEY", "HTTP_SEC_WEBSOCKET_VERSION", "HTTP_SEC_WEBSOCKET_PROTOCOL"),
    }
)
"""What the handshake is made of. Not extensions: permessage-deflate would make each follower's bytes its own."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A socket that may be opened: who takes it, by its descriptor, and what is given back if it could not be opened."""

    admit: Callable[[int, WSConnection], None]
    leave: Callable[[], None]


def websocket(blueprint: Blueprint, path: str) -> Callable[[Callable[..., Opening]], Callable[..., Opening]]:
    """Put a WebSocket on a blueprint. The view checks, refuses as any view does, and returns what serves the socket."""
    blueprint.record_once(_configure)

    def decorate(view: Callable[..., Opening]) -> Callable[..., Opening]:
        @functools.wraps(view)
        def serve(shaken: Any, **_: Any) -> None:
            shaken.connected = False  # flask-sock has nothing to close any more
            g.opened = True
            g.opening.admit(shaken.sock.detach(), shaken.ws)

        Sock().route(path, bp=_Door(blueprint, view))(serve)
        return view

    return decorate


class NoThread:
    """In the place of the thread in which simple-websocket would read and ping: there is none."""

    name = ""

    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None:
        """Do nothing."""


class _Door:
    """What flask-sock takes for a blueprint: its view goes behind the checks."""

    def __init__(self, blueprint: Blueprint, view: Callable[..., Opening]) -> None:
        self._blueprint = blueprint
        self._view = view

    def route(self, path: str, **options: Any) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Put a view on the blueprint."""

        def decorate(shake: Callable[..., Response]) -> Callable[..., Response]:
            @functools.wraps(self._view)
            def guarded(**arguments: Any) -> Response:
                _check_handshake()
                g.opening = self._view(**arguments)
                try:
                    return _shaken(shake, arguments)
                finally:
                    if "opened" not in g:
                        g.opening.leave()
                    g.pop(
                        "opening"
                    )  # answers are given in this request's name, for long: without what they need no more

            route: Callable[..., Any] = self._blueprint.route(path, **options)
            route(guarded)
            return guarded

        return decorate


def _configure(state: BlueprintSetupState) -> None:
    state.app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": NoThread, "subprotocols": [SUBPROTOCOL]}


def offered() -> list[str]:
    """Return the subprotocols that the client speaks."""
    given = request.headers.get("Sec-WebSocket-Protocol", "")
    return [name.strip() for name in given.split(",") if name.strip()]


def _check_handshake() -> None:
    """Raise HandshakeFaulty for what cannot be answered with 101."""
    headers, environ = request.headers, request.environ
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or "gunicorn.socket" not in environ or "HTTP_VERSION" in environ:
        raise HandshakeFaulty("A WebSocket is opened over HTTP/1.1.")
    if headers.get("Sec-WebSocket-Version") != VERSION:
        raise HandshakeFaulty(f"The header Sec-WebSocket-Version must be {VERSION}.")
    if not KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
        raise HandshakeFaulty("The header Sec-WebSocket-Key must be 16 bytes as base64.")
    if (names := offered()) and SUBPROTOCOL not in names:
        raise HandshakeFaulty(f"Of the subprotocols one must be {SUBPROTOCOL}.")
    if request.method != "GET" or request.content_length or "Transfer-Encoding" in headers:
        raise HandshakeFaulty("The request that opens a WebSocket has no body.")


def _shaken(shake: Callable[..., Response], arguments: dict[str, Any]) -> Response:
    """Let flask-sock answer the handshake and hand the socket over."""
    environ = request.environ
    for name in [name for name in environ if name.startswith("HTTP_") and name not in NEEDED]:
        del environ[name]  # the key above all: from here on nobody needs it
    environ["HTTP_HOST"] = "localhost"  # a Host may be anything; simple-websocket wants a name
    try:
        response = shake(**arguments)
    except (OSError, NotShaken) as fault:  # the client is gone
        log.info("a WebSocket could not be opened", error=str(fault))
        response = Handled()
    response.status_code = 101
    return response
