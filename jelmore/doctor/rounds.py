"""The doctor's rounds: what is looked at, by what is known of where the service is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from core.clock import SystemClock
from core.settings import REDIS_VARIABLES
from jelmore.doctor import canary, inside
from jelmore.doctor.canary import Errand
from jelmore.doctor.facts import Outside
from jelmore.doctor.findings import of_inside, wrong
from jelmore.doctor.outside import of_outside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from core.clock import Clock
    from jelmore.doctor.findings import Finding

SERVERS: Final = ("DATABASE_URL", *REDIS_VARIABLES, "NATS_URL", "CELERY_BROKER_URL")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for at the command line."""

    url: str | None
    program: str = "shell"
    idle_seconds: float = 25.0
    canary: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service answers, and with which key."""

    url: str
    key: str


def rounds(environ: Mapping[str, str], wanted: Wanted, clock: Clock | None = None) -> list[Finding]:
    """Look, and return what is found. Raises click's usage errors, each a sentence."""
    from_inside = any(environ.get(name) for name in SERVERS)
    address = _address(environ, wanted, beside_up=not from_inside)
    if address is None and not from_inside:
        raise click.UsageError(
            "Say where the service is: --url (or JELMORE_URL), or run this with the service's own environment"
            " (DATABASE_URL, REDIS_URL ...), or where `jelmore up` runs."
        )
    findings = [*_from_inside(environ)] if from_inside else []
    if address is not None:
        findings += _from_outside(environ, wanted, address, clock or SystemClock())
    return findings


def _address(environ: Mapping[str, str], wanted: Wanted, *, beside_up: bool) -> Address | None:
    url, key = wanted.url or environ.get("JELMORE_URL"), environ.get("JELMORE_API_KEY", "")
    if not url and beside_up:
        home = Path(environ.get("JELMORE_HOME") or ".jelmore")
        url = _line(home / "url")
        key = key or _line(home / "api_key")
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url: an address that begins with http:// or https://.")
    if wanted.canary and not key:
        raise click.UsageError("The canary session needs a key: set JELMORE_API_KEY, or leave it out with --no-canary.")
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise click.UsageError("JELMORE_API_KEY: printable ASCII, without blanks around it.")
    return Address(url.rstrip("/"), key)


def _line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _from_inside(environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        yield from of_inside(inside.look(environ))
    except inside.NoInside as why:
        yield wrong("doctor", f"The servers could not be looked at: {why}.", "Run it where the service is installed.")


def _from_outside(environ: Mapping[str, str], wanted: Wanted, address: Address, clock: Clock) -> Iterator[Finding]:
    reached = canary.reach(address.url, clock)
    sent = None
    if wanted.canary and reached.health is not None and reached.health.get("status") != "unhealthy":
        prefix = environ.get("API_PREFIX") or "/api"
        sent = canary.send(Errand(address.url, address.key, prefix, wanted.program, wanted.idle_seconds))
    yield from of_outside(Outside(reached, sent))
