"""Where the web tier of `jelmore up` listens, and whether it answers there."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jelmore.embedded.server import free_port
from jelmore.home import CannotStart

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_PORT: Final = 8000
EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not listened at)


@dataclass(frozen=True)
class Place:
    """A host and a port."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host as somebody on this machine says it."""
        return EVERY_ADDRESS.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Where to find the API from this machine."""
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def is_free(self) -> bool:
        """Whether we may listen there."""
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError:
                return False
            return True

    def answers(self) -> bool:
        """Whether the web tier lives. A plain connection: a proxy that is set for the world is not asked."""
        connection = http.client.HTTPConnection(self.reachable_host, self.port, timeout=1)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def choose_place(environ: Mapping[str, str]) -> Place:
    """Decide where to listen: this machine only, unless told otherwise; the usual port, or a free one."""
    host = environ.get("API_HOST") or ("0.0.0.0" if environ.get("PORT") else "127.0.0.1")  # noqa: S104
    told = environ.get("PORT") or environ.get("API_PORT")
    if not told:
        usual = Place(host, USUAL_PORT)
        return usual if usual.is_free() else Place(host, free_port())
    if not told.isdecimal() or not 0 < int(told) < 65536:
        raise CannotStart(f"The port {told} is not a number between 1 and 65535.")
    place = Place(host, int(told))
    if not place.is_free():
        raise CannotStart(
            f"Nothing can listen at {host}, port {told}: the port {told} is in use, or {host} is no address of this "
            "machine. Stop what listens there, or choose another with --port or PORT."
        )
    return place
