"""API keys of the environment: what API_KEYS may say. Keys of the database are `models`' business.

Faults are told all at once, one a line, and name a key by its name or by the beginning of its hash, never by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from core.rates import RULES, Rate, parse_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PERMISSIONS: Final = ("read", "write", "admin")
MEMBERS: Final = frozenset({"permissions", "name", "owner", "rate_limits", "max_sessions"})
LONGEST_NAME: Final = 100
SHORTEST_IN_PRODUCTION: Final = 24


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the environment. Its secret is never shown: neither in a representation nor in a log."""

    key: str = field(repr=False)
    name: str
    owner: str
    permissions: frozenset[str]
    rate_limits: Mapping[str, Rate | None] = field(default_factory=dict)
    """By rule, instead of the general ones. None: no limit."""
    max_sessions: int | None = None
    named: bool = True
    """Whether the name was given, not made up."""

    @property
    def digest(self) -> bytes:
        """Return the sha256 of the key, by which keys are compared."""
        return hashlib.sha256(self.key.encode()).digest()


def parse_api_keys(value: Any) -> tuple[ApiKey, ...]:
    """Parse the JSON object of API_KEYS: {"<key>": {"permissions": […], "name"?, "owner"?, "rate_limits"?, "max_sessions"?}}.

    Raises ValueError with a line for each fault.
    """
    if isinstance(value, tuple):
        return value
    members = _members(value)
    faults = [f"{fault} ({_called(key, about)})" for key, about in members.items() for fault in _faults_of(key, about)]
    if faults:
        raise ValueError("\n".join(faults))
    keys = tuple(_key(key, about) for key, about in members.items())
    if alike := [name for name, times in Counter(key.name for key in keys).items() if times > 1]:
        raise ValueError(f"gives one name to two keys ({', '.join(alike)})")
    return keys


def production_faults(keys: Iterable[ApiKey]) -> Iterator[str]:
    """Say what about these keys is good enough for development only."""
    keys = tuple(keys)
    if not keys:
        yield "must hold at least one key in production"
    for key in keys:
        if len(key.key) < SHORTEST_IN_PRODUCTION:
            yield f"needs keys of at least {SHORTEST_IN_PRODUCTION} characters in production ({key.name})"
        if not key.named:
            yield f"needs a name for each key in production ({key.name})"


class _Repeated(ValueError):
    """An object names a member twice: JSON itself would keep the last one without a word."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        raise _Repeated
    return members


def _members(value: Any) -> dict[str, Any]:
    try:
        members = json.loads(value, object_pairs_hook=_once) if isinstance(value, str) else value
    except _Repeated:
        raise ValueError("names a key, or a member of one, twice") from None
    except (ValueError, RecursionError):
        raise ValueError("is not valid JSON") from None
    if not isinstance(members, dict):
        raise ValueError("must be a JSON object whose member names are the keys")
    return members


def _made_up(key: str) -> str:
    return f"env-{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:8]}"


def _called(key: str, about: Any) -> str:
    name = about.get("name") if isinstance(about, dict) else None
    return name if _is_name(name) else _made_up(key)


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _faults_of(key: str, about: Any) -> Iterator[str]:
    if not key or not key.isprintable() or " " in key:
        yield "has a key that is empty, or has blanks or unprintable characters"
    if not isinstance(about, dict):
        yield 'needs an object like {"permissions": ["read"]} for each key'
        return
    permissions = about.get("permissions")
    if not isinstance(permissions, list) or not permissions or any(each not in PERMISSIONS for each in permissions):
        yield "needs permissions out of read, write and admin for each key"
    for member in ("name", "owner"):
        if about.get(member) is not None and not _is_name(about[member]):
            yield f"needs a {member} of 1 to {LONGEST_NAME} printable characters"
    if not _is_cap(about.get("max_sessions")):
        yield "needs a max_sessions that is a positive number"
    if unknown := sorted(set(about) - MEMBERS):
        yield f"has unknown members: {', '.join(unknown)}"
    yield from _faults_of_rates(about.get("rate_limits"))


def _is_cap(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _faults_of_rates(value: Any) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, dict):
        yield 'needs rate_limits like {"session_creation": "20/minute"}'
        return
    for rule, text in value.items():
        if rule not in RULES:
            yield f"has a rate limit for none of {', '.join(RULES)}"
            continue
        try:
            parse_rate(text)
        except ValueError as fault:
            yield f"has a rate limit that {fault}"


def _key(key: str, about: Mapping[str, Any]) -> ApiKey:
    name = about.get("name") or _made_up(key)
    return ApiKey(
        key=key,
        name=name,
        owner=about.get("owner") or name,
        permissions=frozenset(about["permissions"]),
        rate_limits={rule: parse_rate(text) for rule, text in (about.get("rate_limits") or {}).items()},
        max_sessions=about.get("max_sessions"),
        named=bool(about.get("name")),
    )
