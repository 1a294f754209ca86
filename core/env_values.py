"""How one variable's text becomes a value: lists, rates, addresses, numbers with a unit.

What cannot be understood is a ValueError whose words follow the variable's name and never show the value.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, ValidationInfo

from core import urls
from core.rates import Rate, parse_rate

KIB: Final = 1024
MIB: Final = 1024 * KIB
LAST_UID: Final = 2**32 - 3  # the two after it mean nobody at all to the kernel
USERS: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}|([0-9]{1,10})(?:-([0-9]{1,10}))?")
ORIGIN: Final = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#]+", re.IGNORECASE)


def _listed(value: Any) -> Any:
    """Take a JSON list, or words separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("is not a JSON list") from None
    return [word.strip() for word in value.split(",") if word.strip()]


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not all(ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError(
            "needs origins as browsers send them (https://example.org, no path, no slash at the end), or *"
        )
    return origins


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError("needs networks like 10.0.0.0/8 or fd00::/8") from None
    return networks


def _logins(logins: tuple[str, ...]) -> tuple[str, ...]:
    # Flower takes them between commas alone, so that none may have one.
    if not all(0 < login.find(":") < len(login) - 1 and "," not in login for login in logins):
        raise ValueError("needs user:password, or several between commas")
    return logins


def _roots(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    # The web tier and the workers may run in different directories, and both look at these.
    if not all(root.is_absolute() for root in roots):
        raise ValueError("needs absolute paths")
    return roots


def _users(users: str) -> str:
    form = USERS.fullmatch(users)
    if form is None:
        raise ValueError("needs the name of a user, a uid, or a range of them like 20000-20999")
    first, last = int(form[1] or 1), int(form[2] or form[1] or 1)
    if not 0 < first <= last <= LAST_UID:
        raise ValueError(f"needs uids from 1 to {LAST_UID}, the smaller one first")
    return users


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _cert_reqs(others: ValidationInfo) -> str:
    return str(others.data.get("redis_ssl_cert_reqs", "none"))


def _redis_url(url: str, others: ValidationInfo) -> str:
    return urls.redis_url(url, _cert_reqs(others))


def _broker_url(url: str, others: ValidationInfo) -> str:
    return urls.broker_url(url, _cert_reqs(others))


Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Origins = Annotated[Words, AfterValidator(_origins)]
Networks = Annotated[Words, AfterValidator(_networks)]
Logins = Annotated[Words, AfterValidator(_logins)]
Roots = Annotated[tuple[Path, ...], BeforeValidator(_listed), AfterValidator(_roots)]

Users = Annotated[str, AfterValidator(_users)]

WorkerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]

FlowerPrefix = Annotated[str, Field(pattern=r"^/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?$")]
FlowerUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")]  # no password: every reader sees it

RateLimit = Annotated[InstanceOf[Rate] | None, BeforeValidator(parse_rate)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]

# Redis addresses look at `redis_ssl_cert_reqs`, which must stand before them.
DatabaseUrl = Annotated[str, AfterValidator(urls.database_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
NatsUrl = Annotated[str, AfterValidator(urls.nats_url)]
