"""Addresses of servers as platforms spell them, turned into what the libraries take."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2")
REDIS_SCHEMES = ("redis", "rediss", "unix")


def database_url(url: str) -> str:
    """Return a PostgreSQL address for psycopg2: SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in POSTGRES_SCHEMES:
        raise ValueError("is not a PostgreSQL address (postgresql://user:password@host/name)")
    return f"postgresql+psycopg2://{rest}"


def redis_url(url: str) -> str:
    """Return a Redis address; over TLS, certificates are checked only if the address says so.

    Platforms that hand out rediss:// addresses sign the certificates themselves.
    """
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError("is not a Redis address (redis://host:6379/0)")
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in query:
        query["ssl_cert_reqs"] = "none"
    return urlunsplit(parts._replace(query=urlencode(query)))


def broker_url(url: str) -> str:
    """Return a broker's address: a Redis one completed, any other as it is."""
    return redis_url(url) if urlsplit(url).scheme in REDIS_SCHEMES else url


def without_password(url: str) -> str:
    """Return an address that may be logged."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))
