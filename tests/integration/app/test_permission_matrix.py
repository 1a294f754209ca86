"""Every route, with every kind of key, on one's own and on somebody else's session: every cell as the contract says.

Routes are taken from the application: a new one is in here by itself, as a reader's if it is GET, else as a writer's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select

from app.api import blueprint
from app.factory import build
from app.web import open_web
from core.settings import load_settings
from models.tables import AuditRow
from tests.checks import eventually

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api

PERMISSIONS: Final = ("read", "write", "read+write", "admin")
OWNERS: Final = ("ada", "bob")
KEYS: Final = {
    f"{owner}-{granted}-key": {
        "permissions": granted.split("+"),
        "name": f"matrix-{owner}-{granted}",
        "owner": owner,
    }
    for owner in OWNERS
    for granted in PERMISSIONS
}
NOBODYS: Final = "01a20876-96f3-7641-a7dd-835fac400188"
FOR_ADMINISTRATORS: Final = ("/keys", "/audit")
NEEDS: Final = {("POST", "/sessions/<session_id:session_id>/wait"): "read"}
"""What differs from: GET needs `read`, everything else `write`."""
FOR_WRITERS: Final = "/webhooks"
"""Whoever may make them may see them: their addresses may be secrets."""
BODIES: Final[dict[str, Any]] = {
    "/sessions": {"query": "true"},
    "/sessions/<session_id:session_id>/requests/<session_id:asked_id>": {"decision": "deny"},
    "input": {"input": "x"},
    "signal": {"signal": "INT"},
    "resize": {"rows": 24, "cols": 80},
    "extend": {"timeout_minutes": 5},
    "resume": {"query": "true"},
    "wait": {"until": {"exit": True}, "timeout_seconds": 1},
    "tickets": {"scopes": ["read"]},
    "/keys": {"name": "", "permissions": ["read"]},  # found wrong by whoever may make one
    "/webhooks": {"url": ""},  # as above
}
QUERIES: Final = {"search": "?q=hello", "/stream": "?sessions={}"}
OF_ITS_OWN: Final = ("x-request-id", "date", "x-ratelimit-remaining", "x-ratelimit-reset")
"""Headers that no two answers share."""


def routes() -> list[tuple[str, str]]:
    """(method, rule below /api/v1) of every route of the API."""
    web = open_web(load_settings({}))
    try:
        rules = [
            rule
            for rule in build(None, web).url_map.iter_rules()
            if rule.endpoint.startswith(f"{blueprint.name}.") and not rule.websocket  # refused before by other tests
        ]
    finally:
        web.close()
    return sorted(
        (method, rule.rule.removeprefix("/api/v1"))
        for rule in rules
        for method in (rule.methods or set()) - {"OPTIONS"}
    )


ROUTES: Final = routes()
OF_SESSIONS: Final = [(method, rule) for method, rule in ROUTES if "session_id" in rule]


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    known = json.loads(variables["API_KEYS"])
    return {**variables, "API_KEYS": json.dumps(known | KEYS)}


@pytest.fixture
def hers(api: Api, holder: Holder) -> UUID:
    """An ended session of ada's: whatever is asked of it is answered at once."""
    session_id = api.as_("ada-read+write-key").create()
    run = holder.run(session_id)
    run.write(b"hello")
    run.end()
    return session_id


def ask(api: Api, method: str, rule: str, target: object, scopes: list[str] | None = None) -> httpx2.Response:
    path = rule
    for argument in ("<session_id:session_id>", "<session_id:asked_id>", "<key_id:key_id>", "<webhook_id:webhook_id>"):
        path = path.replace(argument, str(target))
    word = path.rpartition("/")[2]
    body = {"scopes": scopes} if scopes else BODIES.get(word, BODIES.get(rule))
    if path == "/events/stream":  # it has no end: whoever is let in is told that this is no position
        path += "?after=nowhere"
    more = {} if method != "POST" or body is None else {"json": body}
    return api.call(method, path + QUERIES.get(rule, QUERIES.get(word, "")).format(target), **more)


def may(granted: str, method: str, rule: str) -> bool:
    if granted == "admin":
        return True
    if rule.startswith(FOR_ADMINISTRATORS):
        return False
    if rule.endswith("/tickets"):
        return "read" in granted  # what is asked for, above
    if rule.startswith(FOR_WRITERS):
        return "write" in granted.split("+")
    needed = NEEDS.get((method, rule), "read" if method in ("GET", "HEAD") else "write")
    return needed in granted.split("+")


def told(answer: httpx2.Response, target: object) -> tuple[int, dict[str, str], str]:
    """Whatever a client could tell two answers apart by."""
    headers = {name: value for name, value in answer.headers.items() if name not in OF_ITS_OWN}
    body = answer.text.replace(str(target), "<id>")
    if answer.text and answer.headers["Content-Type"] == "application/json":
        body = json.dumps({**json.loads(body), "timestamp": ""})
    return answer.status_code, headers, body


def test_the_matrix_has_every_route_there_is() -> None:
    assert {("POST", "/sessions"), ("GET", "/audit"), ("POST", "/keys")} <= set(ROUTES)
    assert len(OF_SESSIONS) > 10


@pytest.mark.parametrize("granted", PERMISSIONS)
def test_every_route_lets_in_whom_it_should(api: Api, hers: UUID, granted: str) -> None:
    for method, rule in ROUTES:
        answer = ask(api.as_(f"ada-{granted}-key"), method, rule, hers)
        if may(granted, method, rule):
            assert answer.status_code not in (401, 403), (method, rule)
            assert answer.status_code < 500, (method, rule)
            assert answer.status_code != 404 or rule.startswith(("/keys/", "/webhooks/")), (method, rule)
        else:
            assert answer.status_code == 403, (method, rule)
            assert method == "HEAD" or answer.json()["error_code"] == "INSUFFICIENT_PERMISSIONS"


@pytest.mark.parametrize("granted", PERMISSIONS)
def test_another_owners_session_is_answered_like_one_that_never_was(api: Api, hers: UUID, granted: str) -> None:
    bob = api.as_(f"bob-{granted}-key")
    for method, rule in OF_SESSIONS:
        answer, unknown = ask(bob, method, rule, hers), ask(bob, method, rule, NOBODYS)
        if granted == "admin":
            assert answer.status_code not in (401, 403, 404), (method, rule)
            continue
        assert told(answer, hers) == told(unknown, NOBODYS), (method, rule)
        assert answer.status_code == (404 if may(granted, method, rule) else 403), (method, rule)


@pytest.mark.parametrize("granted", PERMISSIONS)
@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_ticket_has_no_more_scopes_than_its_key_permissions(api: Api, hers: UUID, granted: str, scope: str) -> None:
    rule = "/sessions/<session_id:session_id>/tickets"
    answer = ask(api.as_(f"ada-{granted}-key"), "POST", rule, hers, [scope])

    assert answer.status_code == (201 if granted == "admin" or scope in granted.split("+") else 403)


@pytest.mark.parametrize("headers", [{"Authorization": ""}, {"Authorization": "Bearer wrong"}])
def test_without_a_good_key_every_session_is_answered_alike(api: Api, hers: UUID, headers: dict[str, str]) -> None:
    nobody = api.as_("")
    nobody.headers = headers
    for method, rule in ROUTES:
        answer = ask(nobody, method, rule, hers)
        assert answer.status_code == 401, (method, rule)
        assert told(answer, hers) == told(ask(nobody, method, rule, NOBODYS), NOBODYS), (method, rule)


def test_what_is_anothers_stands_in_no_list(api: Api, hers: UUID) -> None:
    for granted in ("read", "read+write"):
        assert str(hers) in api.as_(f"ada-{granted}-key").get("/sessions?limit=1000").text
        assert str(hers) not in api.as_(f"bob-{granted}-key").get("/sessions?limit=1000").text
    assert str(hers) in api.as_("bob-admin-key").get("/sessions?limit=1000").text


@pytest.mark.case(50)
def test_every_try_at_anothers_session_is_in_the_audit(api: Api, hers: UUID, web: Web) -> None:
    for method, rule in OF_SESSIONS:
        ask(api.as_("bob-read+write-key"), method, rule, hers)
        ask(api.as_("bob-read-key"), method, rule, NOBODYS)

    def noted() -> bool:
        of_it = (AuditRow.actor == "matrix-bob-read+write", AuditRow.target == str(hers))
        with web.database.transaction() as tx:
            rows = tx.scalars(select(AuditRow).where(*of_it)).all()
        assert {row.outcome for row in rows} <= {"SESSION_NOT_FOUND"}
        assert all(row.detail == {"foreign_owner": "ada"} and row.owner == "bob" for row in rows)
        return len(rows) == len(OF_SESSIONS)

    eventually(noted)
    with web.database.transaction() as tx:
        mistakes = (
            AuditRow.target == NOBODYS,
            AuditRow.actor == "matrix-bob-read",
            AuditRow.outcome != "SESSION_NOT_FOUND",
        )
        assert {row.outcome for row in tx.scalars(select(AuditRow).where(*mistakes))} == {"INSUFFICIENT_PERMISSIONS"}
