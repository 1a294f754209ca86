"""Who asks, and whether they may: the Authorization header in front of every route."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

from flask import g, request

from app import limits
from app.web import current_web
from core.errors import ApiKeyRequired, InsufficientPermissions, InvalidApiKey, KeyInQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.keyring import Caller, Permission

P = ParamSpec("P")
R = TypeVar("R")

NOT_IN_A_URL: Final = frozenset({"key", "api_key", "token", "access_token", "authorization"})


def refuse_keys_in_query() -> None:
    """Raise KeyInQuery if the URL carries what looks like a key: proxies and browsers keep URLs."""
    if any(name.lower() in NOT_IN_A_URL for name in request.args):
        raise KeyInQuery


def requires(permission: Permission) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only keys with that permission into a route; `current_caller` says whose it was."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            g.caller = _authenticate()
            limits.admit(g.caller)
            if not g.caller.may(permission):
                raise InsufficientPermissions
            return view(*args, **kwargs)

        return guarded

    return decorate


def current_caller() -> Caller:
    """Return the key this request came with."""
    return cast("Caller", g.caller)


def _authenticate() -> Caller:
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise ApiKeyRequired
    # WSGI hands over the header's bytes as Latin-1.
    caller = current_web().keyring.find(key.strip().encode("latin-1", errors="replace"))
    if caller is None:
        raise InvalidApiKey
    return caller
