"""Who asks, and whether they may: the Authorization header in front of every route, or a ticket in front of a stream."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

from flask import g, request

from app import limits
from app.here import this_request
from app.web import current_web
from core.errors import ApiKeyRequired, InsufficientPermissions, InvalidApiKey, KeyInQuery, TicketInvalid
from models import api_keys, tickets

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from app.keyring import Caller, Permission

P = ParamSpec("P")
R = TypeVar("R")

NOT_IN_A_URL: Final = frozenset({"key", "api_key", "token", "access_token", "authorization"})
TICKET: Final = "ticket"
OFFERED: Final = "bearer."


def refuse_keys_in_query() -> None:
    """Raise KeyInQuery if the URL carries what looks like a key: proxies and browsers keep URLs."""
    asked = this_request()
    if asked.query_string and any(name.lower() in NOT_IN_A_URL for name in asked.args):
        raise KeyInQuery


def requires(permission: Permission) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only keys with that permission into a route; `current_caller` says whose it was."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            _enter(_authenticate())
            need(permission)
            return view(*args, **kwargs)

        return guarded

    return decorate


def requires_key(view: Callable[P, R]) -> Callable[P, R]:
    """Let any key into a route, which looks itself what the key is good for (`need`)."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        _enter(_authenticate())
        return view(*args, **kwargs)

    return guarded


def requires_or_ticket(permission: Permission) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let keys with that permission into a session's stream, or whoever has a ticket for it. A key beats a ticket."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if TICKET in request.args and not _bearer():
                _enter(authenticate_ticket(cast("UUID", kwargs["session_id"]), permission))
            else:
                _enter(_authenticate())
            need(permission)
            return view(*args, **kwargs)

        return guarded

    return decorate


def requires_key_or_ticket(view: Callable[P, R]) -> Callable[P, R]:
    """Let any key or ticket into a session's WebSocket, which looks at each message itself what they are good for."""

    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if TICKET in request.args and not _bearer():
            _enter(authenticate_ticket(cast("UUID", kwargs["session_id"])))
        else:
            _enter(_authenticate())
        return view(*args, **kwargs)

    return guarded


def _enter(caller: Caller) -> None:
    """Note who asks: from here on the request is theirs, and counted for them."""
    g.caller = caller
    limits.admit(caller)


def need(permission: Permission) -> None:
    """Raise InsufficientPermissions if the key is not good for that."""
    if not current_caller().may(permission):
        raise InsufficientPermissions


def current_caller() -> Caller:
    """Return the key this request came with."""
    return cast("Caller", g.caller)


def authenticate_ticket(session_id: UUID, scope: Permission | None = None) -> Caller:
    """Use up the ticket in the URL and return its key, good for the ticket's scopes alone. `scope` None: any will do.

    Raises TicketInvalid: used, expired, another session's, without that scope, or of a key that is not good any more.
    """
    web = current_web()
    # One transaction: if the key cannot be looked up, the ticket is still there.
    with web.database.transaction() as tx:
        redeemed = tickets.redeem(tx, request.args[TICKET], session_id, scope)
        caller = None if redeemed is None else web.keyring.of_bearer(tx, redeemed.bearer)
    if redeemed is None or caller is None:
        raise TicketInvalid
    narrowed = caller.narrowed(redeemed.scopes)
    if not narrowed.permissions:
        raise TicketInvalid
    return narrowed


def claimed_key() -> UUID | None:
    """Return the id in a key that was presented, right or wrong: what an audit row may say of it."""
    return api_keys.id_in(_bearer())


def _authenticate() -> Caller:
    presented = _bearer()
    if not presented:
        raise ApiKeyRequired
    caller = current_web().keyring.find(presented)
    if caller is None:
        raise InvalidApiKey
    return caller


def _bearer() -> bytes:
    """Return the key that is presented; empty if there is none. WSGI hands over its bytes as Latin-1."""
    asked = this_request()
    scheme, _, key = asked.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer":
        key = _offered() if asked.url_rule is not None and asked.url_rule.websocket else ""
    return key.strip().encode("latin-1", errors="replace")


def _offered() -> str:
    """Return the key among the subprotocols that a WebSocket's client offers: browsers can send nothing else."""
    names = map(str.strip, request.headers.get("Sec-WebSocket-Protocol", "").split(","))
    return next((name.removeprefix(OFFERED) for name in names if name.startswith(OFFERED)), "")
