"""What Flower is told before it starts, by `tasks.celery`: our settings, and that it must not stand open in production.

Flower reads variables FLOWER_… by itself, and fails at one that is empty; the command line beats them.
"""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from flower.options import options

from core.errors import ConfigurationError
from core.settings import hand_over
from core.start import refuse
from tasks.queue import make_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from core.settings import Settings

PORT: Final = 5555
PURGE_SECONDS: Final = 3600
"""Every start of a worker has a node name of its own: one that is gone never comes back under it."""
ON_COMMAND_LINE: Final = (
    "FLOWER_BASIC_AUTH belongs into the environment: everybody on the machine can read a command line (--basic_auth)."
)
OPEN: Final = (
    "FLOWER_BASIC_AUTH (user:password) must be set in production: Flower shows every task and can end every session. "
    "Without it Flower may listen on loopback alone (FLOWER_ADDRESS=127.0.0.1)."
)


def prepare(settings: Settings, command_line: Sequence[str]) -> Celery:
    """Hand our settings over; what is wrong with the options is looked at once Flower has read them all."""
    options.add_parse_callback(partial(_check, settings, command_line))
    variables = {
        "FLOWER_ADDRESS": settings.flower_address,
        "FLOWER_PORT": str(settings.flower_port or settings.port or PORT),
    }
    if settings.flower_basic_auth:
        variables["FLOWER_BASIC_AUTH"] = ",".join(settings.flower_basic_auth)  # a JSON list is none to Flower
    if settings.flower_url_prefix:
        variables["FLOWER_URL_PREFIX"] = settings.flower_url_prefix.strip("/")
    options.purge_offline_workers = PURGE_SECONDS
    hand_over("FLOWER_", variables)
    app = make_app(settings)
    if certificates := over_tls(settings):
        app.conf.broker_use_ssl = certificates
    return app


def over_tls(settings: Settings) -> dict[str, str]:
    """Return how a broker's certificate is checked. Celery reads that in its address; Flower's page of queues does not."""
    parts = urlsplit(settings.celery_broker_url)
    if parts.scheme != "rediss":
        return {}
    return {name: values[-1] for name, values in parse_qs(parts.query).items() if name.startswith("ssl_")}


def _check(settings: Settings, command_line: Sequence[str]) -> None:
    if fault := fault_of(options, command_line, production=settings.in_production):
        refuse(ConfigurationError([fault]))


def fault_of(given: Any, command_line: Sequence[str], *, production: bool) -> str | None:
    """Return what is wrong with Flower's options, as they came from the environment and from the command line."""
    if any(word.lstrip("-").partition("=")[0].replace("-", "_") == "basic_auth" for word in command_line):
        return ON_COMMAND_LINE
    logins = given.basic_auth or given.auth
    if production and not logins and not given.unix_socket and not _is_loopback(given.address):
        return OPEN
    return None


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
