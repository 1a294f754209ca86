"""Which addresses deliveries may go to, and connecting to them: the address that was looked at is the one connected to.

A name is resolved once, each address it has is judged, and the socket is connected to the number, not to the name: what the name
means a moment later changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from streams.webhooks.targets import Target

    Address = IPv4Address | IPv6Address
    Resolve = Callable[..., Sequence[tuple[Any, ...]]]

NOT_FOR_THE_WORLD: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' own; a metadata service in it
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's services for its machines, on an address like any other
            "169.254.0.0/16",  # link-local, and the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation, here and below
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
"""IANA's special-purpose addresses, and one that should be."""
WORLD: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that was ever given to anybody. Loopback, link-local, private and multicast addresses are outside."""
NOT_OF_THE_WORLD: Final = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation, here and below
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",
        ),
    )
)
TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64: what IPv6-only networks make of IPv4 addresses."""


class Refused(Exception):
    """No delivery goes there. The words are for the webhook's owner: no address that a name of ours may have."""


def plain(address: Address) -> Address:
    """Return the IPv4 address within an IPv6 one that only wraps it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in TRANSLATED:
            return IPv4Address(address.packed[12:])
    return address


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the Internet."""
    address = plain(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_FOR_THE_WORLD)
    return address in WORLD and not any(address in network for network in NOT_OF_THE_WORLD)


class Rules:
    """What may be connected to. `allowed`: networks that may be, though they are private.

    `plain_http`: whether the world may be spoken to without TLS; inside the allowed networks it may be.
    """

    def __init__(self, allowed: Iterable[str], *, plain_http: bool, resolve: Resolve = socket.getaddrinfo) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in allowed]
        self._plain_http = plain_http
        self._resolve = resolve
        self._tls = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.set_alpn_protocols(["http/1.1"])

    def why_not(self, address: Address, *, tls: bool) -> str | None:
        """Say why an address is not connected to; None: it may be."""
        if any(plain(address) in network for network in self._allowed):
            return None
        if not is_public(address):
            return "its address is private or reserved, and not in WEBHOOK_ALLOW_PRIVATE"
        return None if tls or self._plain_http else "it needs https: in production http is for WEBHOOK_ALLOW_PRIVATE"

    def look(self, target: Target) -> None:
        """Raise Refused for what can be known without asking anybody: a literal address, or http where it is for nobody."""
        literal = target.literal
        if literal is not None and (why := self.why_not(literal, tls=target.is_tls)):
            raise Refused(why)
        if not (target.is_tls or self._plain_http or self._allowed):
            raise Refused("it needs https in production")

    def connect(self, target: Target, seconds: float) -> socket.socket:
        """Return a connection to one of the target's addresses that may be connected to, with TLS if it asks for that.

        Raises Refused, OSError; each address has a fair part of the time.
        """
        addresses = self._addresses(target)
        fault: OSError | None = None
        for family, place in addresses:
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(seconds / min(len(addresses), 3))
                connection.connect(place)
                connection.settimeout(seconds)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return self._tls.wrap_socket(connection, server_hostname=target.host) if target.is_tls else connection
            except ssl.SSLError:
                connection.close()
                raise
            except OSError as unreachable:
                connection.close()
                fault = unreachable
            except BaseException:
                connection.close()
                raise
        assert fault is not None
        raise fault

    def _addresses(self, target: Target) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
        """Resolve a target, once, and return what of it may be connected to. Raises Refused if that is nothing."""
        try:
            found = self._resolve(target.host, target.port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise Refused("its name cannot be resolved") from None
        whys = []
        may = []
        for family, _, _, _, place in found:
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            why = self.why_not(ipaddress.ip_address(str(place[0]).partition("%")[0]), tls=target.is_tls)
            if why is None:
                may.append((family, place))
            else:
                whys.append(why)
        if not may:
            raise Refused(whys[0] if whys else "its name has no address")
        return may
