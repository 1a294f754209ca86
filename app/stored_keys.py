"""Keys of the database in one web process: found by one read, kept for a few seconds, and when each was last used.

Looking up a key costs the same whether its id is known or not. What was found is kept by the digest of the whole key, so a
wrong key never meets what a right one left behind, and a revoked one is out within KEPT_SECONDS in every process.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.keyring import Caller
from core.rates import parse_rate
from models import api_keys

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from core.clock import Clock
    from models import tables
    from models.database import Database, Transaction
    from models.tickets import Bearer

KEPT_SECONDS: Final = 4.0
"""How long a key is taken without looking again. Revocation is promised within 5 s."""
KEPT_KEYS: Final = 10_000
NOBODYS: Final = bytes(32)
"""Compared where there is no such key: as long as a digest, and nothing's digest."""
LAST_USED_SECONDS: Final = 60.0
"""How often `last_used_at` is written at most."""


@dataclass(frozen=True, slots=True)
class _Kept:
    row: tables.ApiKey
    caller: Caller
    until: float


class StoredKeys:
    """Holds what this process knows of keys in the database."""

    def __init__(self, database: Database, clock: Clock, *, limit: int = KEPT_KEYS) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._used: dict[UUID, datetime] = {}

    def find(self, key_id: UUID, digest: bytes) -> Caller | None:
        """Return whose key this is, if it is live. Raises DatabaseUnavailable."""
        kept = self._kept.get(digest)
        if kept is None or self._clock.now() >= kept.until:
            kept = self._look(key_id, digest)
        # Looked at each time: an expiry does not wait for what is kept to end.
        if kept is None or not api_keys.admits(kept.row, kept.caller.generation, at=self._clock.at()):
            return None
        self._used[kept.row.id] = self._clock.at()
        return kept.caller

    def _look(self, key_id: UUID, digest: bytes) -> _Kept | None:
        asked = self._clock.now()  # before the look: what is revoked while it lasts may be missed by it
        with self._database.transaction() as tx:
            row = api_keys.find(tx, key_id)
        self._kept.pop(digest, None)
        generation = _matching(row, digest)
        if row is None or generation is None:
            return None
        kept = self._kept[digest] = _Kept(row, _caller(row, generation), asked + KEPT_SECONDS)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return kept

    def of_bearer(self, tx: Transaction, bearer: Bearer) -> Caller | None:
        """Return the key a ticket was given for, if it is still good."""
        row = None if bearer.key_id is None else api_keys.find(tx, bearer.key_id)
        if row is None or not api_keys.admits(row, bearer.generation, at=self._clock.at()):
            return None
        self._used[row.id] = self._clock.at()
        return _caller(row, bearer.generation)

    def forget(self, key_id: UUID) -> None:
        """Drop what is kept of a key."""
        for digest in [digest for digest, kept in self._kept.items() if kept.row.id == key_id]:
            self._kept.pop(digest, None)

    def write_used(self) -> None:
        """Write when keys were last used. Raises DatabaseUnavailable, and has forgotten nothing then."""
        used = dict(self._used)
        if not used:
            return
        with self._database.transaction() as tx:
            api_keys.note_used(tx, used, pause_seconds=LAST_USED_SECONDS)
        for key_id, at in used.items():
            if self._used.get(key_id) == at:
                del self._used[key_id]


def _matching(row: tables.ApiKey | None, digest: bytes) -> int | None:
    """Return the generation of the secret that was presented. Two comparisons, whatever there is to compare with."""
    last = NOBODYS if row is None else bytes(row.secret_hash)
    previous = NOBODYS if row is None or row.previous_hash is None else bytes(row.previous_hash)
    is_last, is_previous = hmac.compare_digest(last, digest), hmac.compare_digest(previous, digest)
    if row is None or not (is_last or is_previous):
        return None
    return row.generation if is_last else row.generation - 1


def _caller(row: tables.ApiKey, generation: int) -> Caller:
    return Caller(
        key_name=row.name,
        owner=row.owner,
        permissions=frozenset(row.permissions),
        max_sessions=row.max_sessions,
        rate_limits={rule: parse_rate(rate) for rule, rate in row.rate_limits.items()},
        key_id=row.id,
        generation=generation,
    )
