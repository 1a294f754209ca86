"""A TCP proxy between a process and its server, for faults a server cannot be made to have: silence, resets, lost replies.

Bytes are passed on by threads, two a connection. While it is a black hole nothing passes and nothing is lost: what was sent
meanwhile arrives when it is healed, and so does the end of a connection, as TCP would do it across a partition.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK_BYTES: Final = 64 * 1024
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST instead of FIN."""


@dataclass
class Link:
    """One connection through the proxy."""

    near: socket.socket
    far: socket.socket
    recent: bytes = b""
    step: int = 0
    doomed: bool = False
    """The next reply is swallowed and the connection reset."""
    closed: threading.Event = field(default_factory=threading.Event)

    def close(self, *, reset: bool = False) -> None:
        """End both connections, by RST if so wanted."""
        self.closed.set()
        for end in (self.near, self.far):
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # Wakes the thread that reads it; the other direction would say FIN before the RST.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on a free port of the loopback and connects to `url`'s host and port."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._links: list[Link] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._unlucky: Sequence[bytes] = ()
        self.delay_seconds = 0.0
        self.replies_lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The server's URL by way of this proxy."""
        login = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    # Faults.

    def black_hole(self) -> None:
        """Pass nothing on, say nothing."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Reset every connection, the new ones too."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Reset the connections there are."""
        for link in self._links:
            link.close(reset=True)

    def lose_reply_to(self, *said: bytes) -> None:
        """Once a client has said these one after the other on one connection: pass it on, lose the reply, reset. One time."""
        self._unlucky = said

    def heal(self) -> None:
        """Pass everything on again."""
        self._refusing = False
        self._unlucky = ()
        self.delay_seconds = 0.0
        self._flowing.set()

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        self._flowing.set()
        self.reset()

    # Passing on.

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._flowing.wait()
        try:
            far = socket.create_connection((self._target.hostname, self._target.port), timeout=3)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            near.close()
            return
        for end in (near, far):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(near, far)
        self._links = [old for old in self._links if not old.closed.is_set()] + [link]
        if self._refusing:
            link.close(reset=True)
        threading.Thread(target=self._pump, args=(link, far, near), daemon=True).start()
        self._pump(link, near, far)

    def _pump(self, link: Link, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                link.closed.wait(self.delay_seconds)
                if source is link.near:
                    self._overhear(link, chunk)
                elif link.doomed:
                    self.replies_lost += 1
                    link.close(reset=True)
                    return
                sink.sendall(chunk)
        self._flowing.wait()
        link.close()

    def _overhear(self, link: Link, chunk: bytes) -> None:
        """Notice when a connection has said what shall get no reply."""
        link.recent = link.recent[-256:] + chunk
        while self._unlucky and link.step < len(self._unlucky) and self._unlucky[link.step] in link.recent:
            link.recent = link.recent.partition(self._unlucky[link.step])[2]
            link.step += 1
            if link.step == len(self._unlucky):
                self._unlucky, link.doomed = (), True


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Hand out a proxy; it is closed whatever happened."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
