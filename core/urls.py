"""Addresses of servers as platforms spell them, turned into what the libraries take; and texts without secrets of addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

POSTGRES_SCHEMES: Final = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2")
REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
NATS_SCHEMES: Final = ("nats", "tls", "ws", "wss")

# An "@" in a password belongs to it; a "/" cannot: such an address is refused at the start.
PASSWORD: Final = re.compile(r"""(?<=://)([^/\s:@"']*):[^\s/"']+@""")
# NATS takes a token where others have a user.
NATS_TOKEN: Final = re.compile(r"""\b(nats|tls|wss?)://[^@/\s:"',]+@""")
PARAMETER: Final = re.compile(
    r"""(?i)(\b(?:ssl)?password=|[?&](?:ticket|key|api_key|token|access_token|authorization)=)[^&\s"',;]+"""
)


def database_url(url: str) -> str:
    """Return a PostgreSQL address for psycopg2: SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3."""
    if _split(url).scheme not in POSTGRES_SCHEMES:
        raise ValueError("is not a PostgreSQL address (postgresql://user:password@host/name)")
    return f"postgresql+psycopg2://{url.partition('://')[2]}"


def redis_url(url: str, cert_reqs: str) -> str:
    """Return a Redis address; over TLS it says how certificates are checked, if it did not say so itself.

    Celery's result backend refuses a rediss:// address without it, its broker takes it for "none".
    """
    parts = _split(url)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError("is not a Redis address (redis://host:6379/0)")
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return url
    return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs={cert_reqs}"


def broker_url(url: str, cert_reqs: str) -> str:
    """Return a broker's address: a Redis one completed, any other as it is."""
    scheme = _split(url).scheme
    if not scheme:
        raise ValueError("is not an address (redis://host:6379/0, amqp://host)")
    return redis_url(url, cert_reqs) if scheme in REDIS_SCHEMES else url


def nats_url(urls: str) -> str:
    """Return addresses of NATS servers, separated by commas, as they are."""
    if not all(_split(url.strip()).scheme in NATS_SCHEMES for url in urls.split(",")):
        raise ValueError("is not a NATS address, or several between commas (nats://host:4222)")
    return urls


def _split(url: str) -> SplitResult:
    """Take an address apart. The library's own words would show parts of it, passwords too."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address: its port is no number (in a password, write / as %2F, # as %23)") from None
    return parts


def without_secrets(text: str) -> str:
    """Return a text whose addresses may be shown: no passwords, no tokens, no tickets."""
    # Looking for a few letters costs a hundredth of a pattern, and most texts hold none of them.
    if "://" in text and "@" in text:
        text = NATS_TOKEN.sub(r"\1://***@", PASSWORD.sub(r"\1:***@", text))
    return PARAMETER.sub(r"\1***", text) if "=" in text else text
