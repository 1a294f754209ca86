"""Who did it, in the words of audit and event rows. Refusals are noted here for all routes, after the answer is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flask import g, request

from app import request_id
from app.auth import claimed_key, current_caller
from app.web import current_web
from core.errors import InvalidApiKey, KeyInQuery, SessionNotFound
from models import audit
from models.audit import Deed
from models.events import Origin

if TYPE_CHECKING:
    from datetime import datetime

    from flask import Flask, Response

    from app.keyring import Caller
    from models.database import Transaction

ANONYMOUS: Final = "anonymous"
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSED: Final = frozenset({401, 403, 429})
NOUNS: Final = {"sessions": "session", "keys": "key", "webhooks": "webhook", "events": "event"}
VERBS: Final = {
    ("POST", False): "create",
    ("GET", False): "list",
    ("GET", True): "show",
    ("DELETE", True): "delete",
    ("PATCH", True): "update",
}
WORDS: Final = {
    "session.delete": "session.terminate",
    "key.delete": "key.revoke",
    "session.tickets": "session.ticket",
    "stream.list": "session.stream",
}
ADDRESS_LENGTH: Final = 100
"""Longer than any address: a proxy that is trusted may still send anything."""


def install(app: Flask) -> None:
    """Note every refusal of a route."""
    app.after_request(_note_refusal)


def origin() -> Origin:
    """Return the key and the request that cause a change."""
    return Origin(current_caller().key_name, request_id.current())


def about(session_id: UUID) -> None:
    """Say whom this request is about, where its path does not: should it be refused, that is its target."""
    g.target = session_id


def note(
    tx: Transaction, action: str, target: UUID | None, *, at: datetime, detail: dict[str, Any] | None = None
) -> None:
    """Write the audit row of this request, in the transaction of what it did."""
    audit.record(tx, deed(action, target, at=at, detail=detail))


def deed(action: str, target: UUID | None, *, at: datetime, detail: dict[str, Any] | None = None) -> Deed:
    """Return the audit row of what this request does."""
    return _deed(action, "ok", None if target is None else str(target), at, detail)


def note_refused(action: str, target: UUID, code: str) -> None:
    """Note a change that was refused, or that failed, within a request that goes on: a WebSocket's."""
    current_web().trail.add(_deed(action, code, str(target), current_web().clock.at(), None))


def action_of(method: str, rule: str) -> str:
    """Return what a route does, as its audit rows say it: POST …/sessions/<id>/input is session.input."""
    noun, *rest = rule.partition("/v1/")[2].split("/")
    words = [part for part in rest if not part.startswith("<")]
    shown = "GET" if method == "HEAD" else method
    verb = words[0] if words else VERBS.get((shown, bool(rest)), shown.lower())
    action = f"{NOUNS.get(noun, noun)}.{verb}"
    return WORDS.get(action, action)


def _deed(action: str, outcome: str, target: str | None, at: datetime, detail: dict[str, Any] | None) -> Deed:
    caller: Caller | None = g.get("caller")
    return Deed(
        actor=caller.key_name if caller else ANONYMOUS,
        action=action,
        outcome=outcome,
        at=at,
        key_id=caller.key_id if caller else None,
        owner=caller.owner if caller else None,
        target=target,
        address=(request.remote_addr or "")[:ADDRESS_LENGTH] or None,
        request_id=request_id.current(),
        detail=detail,
    )


def _note_refusal(response: Response) -> Response:
    """Note what was refused, and every change that failed. Written beside the request, which does not wait."""
    if (code := g.get("error_code")) is None:
        return response
    rule = request.url_rule
    if rule is None or request.blueprint != "api":
        return response
    reading = request.method in READING or rule.rule.endswith("/wait")  # a POST for its body's sake
    missed = code == SessionNotFound.code
    if not reading or missed or response.status_code in REFUSED or code == KeyInQuery.code:
        named = [g.get("target"), *(request.view_args or {}).values()]
        target = next((str(value) for value in named if isinstance(value, UUID)), None)
        claimed = claimed_key() if code == InvalidApiKey.code else None
        detail = None if claimed is None else {"claimed_key": str(claimed)}
        refused = _deed(action_of(request.method, rule.rule), code, target, current_web().clock.at(), detail)
        current_web().trail.add(refused, only_if_foreign=missed and reading)
    return response
