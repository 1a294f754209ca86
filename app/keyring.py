"""Keys and what they are good for: those of the environment and those of the database, which look the same to everybody else."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from models import api_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from app.stored_keys import StoredKeys
    from core.api_keys import ApiKey
    from core.rates import Rate
    from models.database import Transaction
    from models.tickets import Bearer


class Permission(StrEnum):
    """What a key may be good for. Writing does not imply reading."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """The key a request came with. `key_id` None: one of the environment."""

    key_name: str
    owner: str
    permissions: frozenset[str]
    max_sessions: int | None = None
    rate_limits: Mapping[str, Rate | None] = field(default_factory=dict, hash=False)
    """By rule, instead of the general ones. None: no limit."""
    key_id: UUID | None = None
    generation: int = 1
    """Which of the key's secrets it came with."""
    sees_everybody: bool = False
    """A ticket of an administrator is good for less than the key, but for every owner's session."""

    @property
    def identity(self) -> str:
        """Return what tells this key from all others, also from those that had its name before."""
        return self.key_name if self.key_id is None else str(self.key_id)

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
        return None if self.is_admin or self.sees_everybody else self.owner

    def narrowed(self, scopes: frozenset[str]) -> Caller:
        """Return the same caller with these scopes at most: a ticket's."""
        granted = frozenset(scope for scope in scopes if self.may(Permission(scope)))
        return replace(self, permissions=granted, sees_everybody=self.is_admin)


class Keyring:
    """All keys, as one process knows them. Without `stored` those of the environment alone."""

    def __init__(self, keys: Iterable[ApiKey], stored: StoredKeys | None = None) -> None:
        self._callers = [
            (key.digest, Caller(key.name, key.owner, key.permissions, key.max_sessions, key.rate_limits))
            for key in keys
        ]
        self._stored = stored

    @property
    def environment_names(self) -> frozenset[str]:
        """Return the names of the environment's keys: no key of the database may have one of them."""
        return frozenset(caller.key_name for _, caller in self._callers)

    def find(self, presented: bytes) -> Caller | None:
        """Return whose key this is. All keys are compared, each in constant time: the answer's time tells nothing.

        Raises DatabaseUnavailable for what may be a key of the database, while that does not answer.
        """
        digest = api_keys.digest(presented)
        found = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        key_id = api_keys.id_in(presented)
        if found is None and key_id is not None and self._stored is not None:
            return self._stored.find(key_id, digest)
        return found

    def of_bearer(self, tx: Transaction, bearer: Bearer) -> Caller | None:
        """Return the key that a ticket was given for, if that key is still good."""
        if bearer.key_id is None:
            return next((caller for _, caller in self._callers if caller.key_name == bearer.key_name), None)
        return self._stored.of_bearer(tx, bearer) if self._stored is not None else None

    def forget(self, key_id: UUID) -> None:
        """Look again at the next request: this process has just changed the key."""
        if self._stored is not None:
            self._stored.forget(key_id)
