"""Keys in the database: made, found, listed, rotated, revoked. Only the sha256 of a key is stored.

A key is `jmr_<id>_<secret>`: the id, 32 hexadecimal digits, finds the row; the secret is 256 random bits in letters and digits.
Keys of the environment are `core.api_keys`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from core.errors import NotFound
from core.ids import uuid7
from models import outbox
from models.events import EventKind, NewEvent, Origin
from models.tables import ApiKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from models.database import Transaction

ALPHABET: Final = string.ascii_letters + string.digits
SECRET_LENGTH: Final = 43
"""62^43 is just over 2^256. Letters and digits only: a double click takes all of it."""
SPELLING: Final = re.compile(rb"jmr_([0-9a-f]{32})_[A-Za-z0-9]{43}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as somebody asks for it, checked. `expires_at` None: never."""

    name: str
    owner: str
    permissions: Collection[str]
    expires_at: datetime | None = None
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    max_sessions: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A key's row, and the key itself: the only time it is seen."""

    row: ApiKey
    key: str = field(repr=False)


class NameTaken(Exception):
    """Another live key has this name."""


def digest(presented: bytes) -> bytes:
    """Return what is stored of a key, a ticket: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(presented).digest()


def random_text() -> str:
    """Return 256 random bits in letters and digits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))


def id_in(presented: bytes) -> UUID | None:
    """Return the id in what is spelled like a key of the database."""
    found = SPELLING.fullmatch(presented)
    return UUID(found[1].decode()) if found else None


def _new_text(key_id: UUID) -> str:
    return f"jmr_{key_id.hex}_{random_text()}"


def create(tx: Transaction, new: NewKey, origin: Origin, *, at: datetime) -> Shown:
    """Write a new key and its event. Raises NameTaken."""
    _free_name(tx, new.name, origin, at=at)
    key_id = uuid7()
    key = _new_text(key_id)
    made = insert(ApiKey).values(
        id=key_id,
        secret_hash=digest(key.encode()),
        name=new.name,
        owner=new.owner,
        permissions=sorted(new.permissions),
        rate_limits=dict(new.rate_limits),
        max_sessions=new.max_sessions,
        created_at=at,
        created_by=origin.actor,
        expires_at=new.expires_at,
    )
    live_name = made.on_conflict_do_nothing(index_elements=[ApiKey.name], index_where=text("revoked_at IS NULL"))
    if tx.execute(live_name.returning(ApiKey.id)).first() is None:
        raise NameTaken
    row = tx.get_one(ApiKey, key_id)
    _tell(tx, EventKind.KEY_CREATED, row, origin, at=at)
    return Shown(row, key)


def _free_name(tx: Transaction, name: str, origin: Origin, *, at: datetime) -> None:
    """Revoke an expired key of this name: it is good for nothing any more, and its name may be wanted again."""
    expired = select(ApiKey).where(ApiKey.name == name, ApiKey.revoked_at.is_(None), ApiKey.expires_at <= at)
    for row in tx.scalars(expired.with_for_update()):
        _revoke(tx, row, origin, at=at)
    tx.flush()


def find(tx: Transaction, key_id: UUID) -> ApiKey | None:
    """Return a key's row, by its primary key."""
    return tx.get(ApiKey, key_id)


def by_name(tx: Transaction, name: str) -> ApiKey | None:
    """Return the live key of a name, or the last one that had it."""
    named = select(ApiKey).where(ApiKey.name == name)
    return tx.scalars(named.order_by(ApiKey.revoked_at.desc().nulls_first()).limit(1)).first()


def list_keys(tx: Transaction, *, with_revoked: bool, limit: int, before: UUID | None = None) -> list[ApiKey]:
    """Return keys, newest first; those older than `before`."""
    wanted = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
    if not with_revoked:
        wanted = wanted.where(ApiKey.revoked_at.is_(None))
    return list(tx.scalars(wanted if before is None else wanted.where(ApiKey.id < before)))


def standing(tx: Transaction, key_ids: Iterable[UUID]) -> dict[UUID, ApiKey]:
    """Return the rows of keys, by id."""
    return {row.id: row for row in tx.scalars(select(ApiKey).where(ApiKey.id.in_(list(key_ids))))}


def is_live(row: ApiKey, *, at: datetime) -> bool:
    """Whether a key is neither revoked nor expired."""
    return row.revoked_at is None and (row.expires_at is None or at < row.expires_at)


def admits(row: ApiKey, generation: int, *, at: datetime) -> bool:
    """Whether the secret of this generation is taken: the last one, or before the overlap's end the one before."""
    if not is_live(row, at=at):
        return False
    overlaps = row.previous_expires_at is not None and at < row.previous_expires_at
    return generation == row.generation or (generation == row.generation - 1 and overlaps)


def revoke(tx: Transaction, key_id: UUID, origin: Origin, *, at: datetime) -> ApiKey:
    """Revoke a key; one that is revoked stays as it is. Raises NotFound."""
    row = _locked(tx, key_id)
    if row.revoked_at is None:
        _revoke(tx, row, origin, at=at)
    return row


def _revoke(tx: Transaction, row: ApiKey, origin: Origin, *, at: datetime) -> None:
    row.revoked_at = at
    _tell(tx, EventKind.KEY_REVOKED, row, origin, at=at)


def rotate(tx: Transaction, key_id: UUID, overlap_seconds: int, origin: Origin, *, at: datetime) -> Shown:
    """Give a live key a new secret. The old one is taken for `overlap_seconds` more, one still older not at all.

    Raises NotFound, also for a key that is revoked or expired.
    """
    row = _locked(tx, key_id)
    if not is_live(row, at=at):
        raise NotFound("This key is revoked or expired.")
    key = _new_text(key_id)
    row.previous_hash = row.secret_hash if overlap_seconds else None
    row.previous_expires_at = at + timedelta(seconds=overlap_seconds) if overlap_seconds else None
    row.secret_hash = digest(key.encode())
    row.generation += 1
    row.rotated_at = at
    _tell(tx, EventKind.KEY_ROTATED, row, origin, at=at, more={"overlap_seconds": overlap_seconds})
    return Shown(row, key)


def _locked(tx: Transaction, key_id: UUID) -> ApiKey:
    row = tx.scalar(select(ApiKey).where(ApiKey.id == key_id).with_for_update())
    if row is None:
        raise NotFound("There is no such key.")
    return row


def _tell(
    tx: Transaction,
    kind: EventKind,
    row: ApiKey,
    origin: Origin,
    *,
    at: datetime,
    more: Mapping[str, Any] | None = None,
) -> None:
    payload = {"key_id": str(row.id), "name": row.name, "permissions": row.permissions, **(more or {})}
    outbox.add(tx, NewEvent(kind, row.owner, at, origin, None, payload))


_USED = text("""
    UPDATE api_keys SET last_used_at = told.at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS told(id, at)
    WHERE api_keys.id = told.id AND (last_used_at IS NULL OR last_used_at <= told.at - make_interval(secs => :pause))
""")


def note_used(tx: Transaction, used: Mapping[UUID, datetime], *, pause_seconds: float) -> None:
    """Write when keys were last used, each at most once in `pause_seconds`, whichever process it is that writes."""
    tx.execute(_USED, {"ids": list(used), "ats": list(used.values()), "pause": pause_seconds})
