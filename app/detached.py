"""Answers whose connection is taken from gunicorn: what follows the head is written by the relay's hub, for as long as it lasts.

Such a stream occupies none of gunicorn's `worker_connections`, and no greenlet. gunicorn is told that the connection is used up,
as flask-sock does it; its own access line and its own goodbye are ours then. Only where the connection is a plain socket: TLS
is a proxy's business, and HTTP/2 has many streams on one connection.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

import structlog
from flask import Response, g, request

from app import request_id
from app.auth import current_caller
from app.process import is_patched
from app.web import current_web

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.key_watch import KeyWatch, Watched
    from app.open_streams import Place
    from streams.sending import Stream

log = structlog.get_logger("app.access")

OWN: Final = frozenset({"content-length", "connection", "transfer-encoding", "date"})
"""Headers that say how an answer ends: this one does with its connection."""


def can_detach() -> bool:
    """Whether the connection of this request can be taken from the server."""
    connection = request.environ.get("gunicorn.socket")
    is_plain = connection is not None and not hasattr(connection, "getpeercert")
    return is_plain and is_patched() and "HTTP_VERSION" not in request.environ


class Detached(Response):
    """An answer that takes its connection along. `adopt` gets descriptor and head; `abandon`: there was no need to."""

    def __init__(self, adopt: Callable[[int, bytes], None], abandon: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._adopt: Callable[[int, bytes], None] | None = adopt
        self._abandon = abandon

    def __call__(self, environ: Any, *_: Any) -> Any:
        """Hand the connection over, and tell gunicorn that it is used up."""
        adopt, self._adopt = self._adopt, None
        if adopt is not None:
            adopt(environ["gunicorn.socket"].detach(), self._head())
        raise StopIteration

    def __del__(self) -> None:
        """Give back what was taken for an answer that another one replaced."""
        if getattr(self, "_adopt", None) is not None:
            self._abandon()

    def _head(self) -> bytes:
        # As the seed has it. Without a length the body lasts until the close, whatever this says (RFC 9112, 6.3).
        lines = [f"HTTP/1.1 {self.status}", f"Date: {formatdate(time.time(), usegmt=True)}", "Connection: keep-alive"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in OWN]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Handled(Response):
    """An answer that was given already."""

    def __call__(self, *_: Any) -> Any:
        """Tell gunicorn that the connection is used up, as flask-sock does."""
        raise StopIteration


@dataclass(slots=True)
class Visit:
    """What is given back when a stream ends, and what its access line says."""

    place: Place
    key_watch: KeyWatch
    key: str
    path: str
    address: str | None
    request_id: str
    began: float
    watched: Watched | None = None

    def leave(self) -> None:
        """Give everything back."""
        self.place.leave()
        if self.watched is not None:
            self.key_watch.leave(self.watched)
            self.watched = None

    def left(self, follower: Stream) -> None:
        """Take note that a stream has ended."""
        self.leave()
        log.info(
            "stream closed",
            transport=follower.transport,
            path=self.path,
            seconds=round(time.monotonic() - self.began, 3),
            bytes=follower.written,
            ended_by=follower.ended_by,
            address=self.address,
            key=self.key,
            request_id=self.request_id,
        )


def visit(place: Place) -> Visit:
    """Return the visit that this request begins."""
    return Visit(
        place=place,
        key_watch=current_web().key_watch,
        key=current_caller().key_name,
        path=request.path,
        address=request.remote_addr,
        request_id=request_id.current(),
        began=g.began,
    )
