"""What a webhook's URL may be, and its parts. What its name resolves to is looked at when it is connected to, by `addresses`."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

LONGEST_URL: Final = 2048
PORTS: Final = {"http": 80, "https": 443}
VISIBLE: Final = re.compile(r"[!-~]+")
NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
OTHERS_PORTS: Final = frozenset(
    {
        *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566),
        *(6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    }
)
"""Where something listens that is no web server and might obey lines within a request: those that browsers refuse, too."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and what to ask for there."""

    is_tls: bool
    host: str
    port: int
    path: str = field(repr=False)

    @property
    def literal(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """Return the address, where the host is one and no name: also as C libraries spell it, 2130706433 or 0x7f.1."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            pass
        try:
            return ipaddress.IPv4Address(socket.inet_aton(self.host))
        except (OSError, ValueError):
            return None


def parse(url: str) -> Target:
    """Take a URL apart. Raises ValueError with words that follow "url" and show nothing of it."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"must be at most {LONGEST_URL} characters")
    if not VISIBLE.fullmatch(url):
        raise ValueError("must be ASCII without blanks: other characters as %XX, names as xn--…")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("must be a URL: https://example.org/path") from None
    if parts.scheme not in PORTS or not host:
        raise ValueError("must begin with https:// (or http://) and a host")
    if "@" in parts.netloc:
        raise ValueError("must hold no user and no password: deliveries are signed")
    if "#" in url:
        raise ValueError("must have no fragment")
    if "\\" in url:
        raise ValueError("must have no backslash")
    return Target(parts.scheme == "https", _host(host), _port(port, parts.scheme), _path(parts.path, parts.query))


def _host(host: str) -> str:
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ValueError("must have a name or an address as its host") from None
    if not NAME.fullmatch(host):
        raise ValueError("must have a name or an address as its host")
    return host


def _port(port: int | None, scheme: str) -> int:
    if port is None:
        return PORTS[scheme]
    if port in OTHERS_PORTS or (port < 1024 and port not in PORTS.values()):
        raise ValueError("must have the port 80, 443, or one above 1023 that is no other protocol's")
    return port


def _path(path: str, query: str) -> str:
    return f"{path or '/'}?{query}" if query else path or "/"
