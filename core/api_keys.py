"""API keys of the environment: what API_KEYS may say. Keys of the database are `models`' business."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PERMISSIONS: Final = frozenset({"read", "write", "admin"})
SHORTEST_IN_PRODUCTION: Final = 24


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the environment. Its secret is never shown: neither in a representation nor in a log."""

    key: str = field(repr=False)
    name: str
    owner: str
    permissions: frozenset[str]
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    max_sessions: int | None = None
    named: bool = True
    """Whether the name was given, not made up."""

    @property
    def digest(self) -> bytes:
        """Return the sha256 of the key, by which keys are compared."""
        return hashlib.sha256(self.key.encode()).digest()


def parse_api_keys(value: Any) -> tuple[ApiKey, ...]:
    """Parse the JSON object of API_KEYS: {"<key>": {"permissions": […], "name"?, "owner"?, "rate_limits"?, "max_sessions"?}}."""
    if isinstance(value, tuple):
        return value
    try:
        members = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is not valid JSON") from None
    if not isinstance(members, dict):
        raise ValueError("must be a JSON object whose member names are the keys")
    keys = tuple(_parse_key(key, about) for key, about in members.items())
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise ValueError("names two keys alike")
    return keys


def _parse_key(key: str, about: Any) -> ApiKey:
    digest = hashlib.sha256(key.encode()).hexdigest()
    called = f"key env-{digest[:8]}"
    if not key or not key.isprintable() or " " in key:
        raise ValueError(f"has a key that is empty or not printable ({called})")
    if not isinstance(about, dict) or not isinstance(about.get("permissions"), list):
        raise ValueError(f'needs {{"permissions": [...]}} for each key ({called})')
    permissions = frozenset(map(str, about["permissions"]))
    if not permissions or permissions - PERMISSIONS:
        raise ValueError(f"has permissions other than read, write and admin ({called})")
    if unknown := set(about) - {"permissions", "name", "owner", "rate_limits", "max_sessions"}:
        raise ValueError(f"has unknown members {', '.join(sorted(unknown))} ({called})")
    name = about.get("name") or f"env-{digest[:8]}"
    return ApiKey(
        key=key,
        name=name,
        owner=about.get("owner") or name,
        permissions=permissions,
        rate_limits=_parse_rates(about.get("rate_limits"), called),
        max_sessions=_parse_cap(about.get("max_sessions"), called),
        named=bool(about.get("name")),
    )


def _parse_rates(value: Any, called: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(rate, str) for rate in value.values()):
        raise ValueError(f'has rate_limits that are not {{"rule": "n/unit"}} ({called})')
    return dict(value)


def _parse_cap(value: Any, called: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"has a max_sessions that is not a positive number ({called})")
    return value


def check_for_production(keys: tuple[ApiKey, ...]) -> None:
    """Raise ValueError for keys that are good enough for development only."""
    if not keys:
        raise ValueError("API_KEYS must name at least one key in production")
    for key in keys:
        if len(key.key) < SHORTEST_IN_PRODUCTION:
            raise ValueError(f"API_KEYS: {key.name} is shorter than {SHORTEST_IN_PRODUCTION} characters")
        if not key.named:
            raise ValueError(f"API_KEYS: {key.name} needs a name in production")
