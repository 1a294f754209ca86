"""Keys and what they are good for. Keys of the environment; keys of the database come later and look the same."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from core.api_keys import ApiKey
    from core.rates import Rate


class Permission(StrEnum):
    """What a key may be good for. Writing does not imply reading."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """The key a request came with."""

    key_name: str
    owner: str
    permissions: frozenset[str]
    max_sessions: int | None = None
    rate_limits: Mapping[str, Rate | None] = field(default_factory=dict, hash=False)
    """By rule, instead of the general ones. None: no limit."""

    @property
    def identity(self) -> str:
        """Return what tells this key from all others: its requests are counted, and its idempotency keys kept, under it."""
        return self.key_name

    def may(self, permission: Permission) -> bool:
        """Whether this key is good for that."""
        return permission in self.permissions or self.is_admin

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything, for every owner."""
        return Permission.ADMIN in self.permissions

    @property
    def sees(self) -> str | None:
        """Return whose sessions it sees; None: everybody's."""
        return None if self.is_admin else self.owner


class Keyring:
    """The keys of the environment, found by the sha256 of what is presented."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._callers = [
            (key.digest, Caller(key.name, key.owner, key.permissions, key.max_sessions, key.rate_limits))
            for key in keys
        ]

    def find(self, presented: bytes) -> Caller | None:
        """Return whose key this is. All keys are compared, each in constant time: the answer's time tells nothing."""
        digest = hashlib.sha256(presented).digest()
        found = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found
