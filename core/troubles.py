"""What servers and their libraries say when they cannot be used, turned into sentences that say what to do. Pure.

The libraries' own words name hosts and users; these may be shown to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SILENT: Final = ("timeout", "timed out", "no answer", "time-out")
_REFUSED: Final = ("connection refused", "connect call failed", "no servers available", "no such file or directory")
_UNKNOWN_HOST: Final = (
    *("could not translate host name", "name or service not known", "name resolution", "nodename nor servname"),
    "no address associated",
)

_POSTGRES: Final = (
    (
        ("password authentication failed", "no password supplied", "no pg_hba.conf entry"),
        "PostgreSQL refuses the user or the password in DATABASE_URL",
    ),
    (("fatal:  role ",), "PostgreSQL does not know the user in DATABASE_URL"),
    (("fatal:  database ",), "PostgreSQL has no database of the name in DATABASE_URL"),
    (
        ("too many clients", "too many connections", "connection slots"),
        "PostgreSQL takes no more connections: raise max_connections, or lower DATABASE_POOL_SIZE",
    ),
    (
        ("starting up", "shutting down", "recovery mode", "not yet accepting"),
        "PostgreSQL is starting up or shutting down",
    ),
    (_UNKNOWN_HOST, "PostgreSQL is not found: the host name in DATABASE_URL is not known"),
    (_REFUSED, "PostgreSQL is down: nothing listens where DATABASE_URL points"),
    (_SILENT, "PostgreSQL does not answer in time"),
    (("ssl", "certificate"), "PostgreSQL and DATABASE_URL do not agree on TLS"),
)
_REDIS: Final = (
    (
        ("wrongpass", "noauth", "invalid username-password", "authentication required", "invalid password", "noperm"),
        "Redis refuses the user or the password in {setting}",
    ),
    (("oom ", "used memory > 'maxmemory'"), "Redis is full: give it more memory (maxmemory)"),
    (("misconf",), "Redis takes no writes because it cannot save to its disk"),
    (("loading",), "Redis is reading its data and will answer soon"),
    (("readonly", "read only"), "{setting} points to a replica, which takes no writes"),
    (("moved ", "crossslot"), "{setting} points to a node of a Redis Cluster, which Jelmore cannot use"),
    (_UNKNOWN_HOST, "Redis is not found: the host name in {setting} is not known"),
    (_REFUSED, "Redis is down: nothing listens where {setting} points"),
    (_SILENT, "Redis does not answer in time"),
    (("ssl", "certificate"), "Redis and {setting} do not agree on TLS"),
)
_NATS: Final = (
    (("authorization violation", "authentication"), "NATS refuses the user, password or NATS_CREDS"),
    (("jetstream not enabled", "no responders", "jetstream system"), "NATS runs without JetStream"),
    (_UNKNOWN_HOST, "NATS is not found: the host name in NATS_URL is not known"),
    (_REFUSED, "NATS is down: nothing listens where NATS_URL points"),
    (_SILENT, "NATS does not answer in time"),
    (("ssl", "certificate", "tls"), "NATS and NATS_URL do not agree on TLS"),
)


def of_postgres(words: str) -> str:
    """Say what keeps PostgreSQL from being used."""
    return _first(_POSTGRES, words, "PostgreSQL does not let us in")


def of_redis(words: str, setting: str = "REDIS_URL") -> str:
    """Say what keeps Redis from being used."""
    return _first(_REDIS, words, "Redis does not let us in").format(setting=setting)


def of_nats(words: str) -> str:
    """Say what keeps NATS from being used."""
    return _first(_NATS, words, "NATS does not let us in")


def _first(signs: Sequence[tuple[tuple[str, ...], str]], words: str, otherwise: str) -> str:
    heard = words.lower()
    return next((said for marks, said in signs if any(mark in heard for mark in marks)), otherwise)
