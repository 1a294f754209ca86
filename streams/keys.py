"""Every Redis key and channel of the streams, with its type and meaning. Nothing else spells a name.

All keys of one session carry the hash tag `{session}`: in a Redis Cluster they live on one node, so one
script may touch them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

PREFIX: Final = "jelmore:"


def head(session_id: UUID) -> str:
    """Hash: `fence` of the writer, `seq` of the last entry appended. Missing after a flush or its TTL."""
    return f"{PREFIX}{{{session_id}}}:head"


def log(session_id: UUID) -> str:
    """Stream: the tail of the log. Ids are `<seq>-0`, the one field `e` is the packed entry."""
    return f"{PREFIX}{{{session_id}}}:log"


def bell(session_id: UUID) -> str:
    """Channel: msgpack `[last seq, packed entries?]` after each append. A hint: it may be lost."""
    return f"{PREFIX}{{{session_id}}}:bell"


def holder(incarnation: UUID) -> str:
    """Channel of one worker incarnation: session ids whose mailbox has something in it."""
    return f"{PREFIX}worker:{incarnation}"


LIMITS: Final = f"{PREFIX}limits"
"""Prefix of strings with a TTL, the counters of rate limits: how often something was done in a window that began with the first."""


def web(name: UUID | str) -> str:
    """String with a TTL: msgpack {owner: {session id: streams}}, what one web process has open."""
    return f"{PREFIX}web:{name}"


WEBS: Final = f"{PREFIX}webs"
"""Set of the names of web processes, some of them gone."""

RELAY: Final = f"{PREFIX}relay"
"""Channel on which nobody publishes: keeps the relay's connection subscribed."""
