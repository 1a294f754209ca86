"""Whom sessions run as: what SESSION_USER says. A name or uid is shared by all; of a range each live session has one uid."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.settings import Settings


@dataclass(frozen=True, slots=True)
class User:
    """Whom a session's processes run as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def uids(settings: Settings) -> range | None:
    """Return the uids of SESSION_USER if it is a range."""
    first, dash, last = (settings.session_user or "").partition("-")
    return range(int(first), int(last) + 1) if dash and first.isdigit() and last.isdigit() else None


def shared(settings: Settings) -> User | None:
    """Return the user of SESSION_USER if all sessions have the same. Raises KeyError for a name nobody has."""
    name = settings.session_user
    return None if name is None or uids(settings) else _known(name)


def of_range(uid: int) -> User:
    """Return one of a range: in the group of the same number, whatever else the machine may know of that uid."""
    return User(uid, uid, (uid,))


@cache
def _known(name: str) -> User:
    try:
        known = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if not name.isdigit():
            raise
        return of_range(int(name))
    return User(known.pw_uid, known.pw_gid, tuple(os.getgrouplist(known.pw_name, known.pw_gid)))
