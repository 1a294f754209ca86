"""Every message of a WebSocket and every ticket, with every kind of key, on one's own and on somebody else's session.

Messages are taken from the application: a new one has to say here what it needs. REST and event streams: `test_permission_matrix`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event

from app.api.messages import MESSAGES
from tests.integration.app.talking import Raw, refused, talking
from tests.integration.app.test_permission_matrix import KEYS, NOBODYS, OF_SESSIONS, PERMISSIONS, ask, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api

NEEDS: Final = {
    "ping": None,
    "get_status": "read",
    "subscribe": "read",
    "input": "write",
    "resize": "write",
    "signal": "write",
    "eof": "write",
    "interrupt": "write",
    "answer": "write",
    "terminate": "write",
}
ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "input": {"content": "x"},
    "resize": {"rows": 24, "cols": 80},
    "signal": {"signal": "INT"},
    "answer": {"request_id": NOBODYS, "decision": "deny"},
}
SCOPES: Final = (("read",), ("write",), ("read", "write"))
TICKETED: Final = "/sessions/<session_id:session_id>/stream"
FORBIDDEN: Final = "INSUFFICIENT_PERMISSIONS"


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    known = json.loads(variables["API_KEYS"])
    return {**variables, "API_KEYS": json.dumps(known | KEYS)}


@pytest.fixture
def run(gevent: Api, holder: Holder) -> Run:
    """A running session of ada's, with a terminal."""
    return holder.run(gevent.as_("ada-read+write-key").create(terminal={"rows": 24, "cols": 80}))


def ticket_of(api: Api, session_id: UUID, *scopes: str) -> str:
    answer = api.post(f"/sessions/{session_id}/tickets", {"scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def outcomes(api: Api, run: Run, query: str = "", **options: Any) -> tuple[set[str], dict[str, str | None]]:
    """Say everything there is to say; return what was sent unasked, and by message the code of its error, if it was one."""
    said = [*MESSAGES]  # to end the session comes last
    unasked: set[str] = set()
    codes: dict[str, str | None] = {}
    with talking(api, run.session_id, query, **options) as talk:
        for name in said:
            talk.say(type=name, id=name, **ARGUMENTS.get(name, {}))
        while len(codes) < len(said):
            for letter in run.fetch():
                run.deliver(letter)
            heard = talk.hear()
            if heard.get("id") in said:
                codes[heard["id"]] = heard["error_code"] if heard["event"] == "error" else None
            else:
                unasked.add(heard["event"])
    return unasked, codes


def expected(granted: tuple[str, ...]) -> dict[str, str | None]:
    let_in = {"answer": "REQUEST_NOT_FOUND"}  # a shell wants nothing decided
    return {
        name: let_in.get(name) if needed is None or needed in granted else FORBIDDEN for name, needed in NEEDS.items()
    }


def test_the_matrix_has_every_message_there_is() -> None:
    assert set(NEEDS) == set(MESSAGES)
    assert list(MESSAGES)[-1] == "terminate"


@pytest.mark.parametrize("owner", ["ada", "bob"])
@pytest.mark.parametrize("granted", PERMISSIONS)
def test_every_message_is_answered_as_its_key_may(gevent: Api, run: Run, granted: str, owner: str) -> None:
    api = gevent.as_(f"{owner}-{granted}-key")
    if owner == "bob" and granted != "admin":
        status, body = refused(api, run.session_id)
        assert (status, body["error_code"]) == (404, "SESSION_NOT_FOUND")
        return
    run.write(b"shown")
    permissions = ("read", "write") if granted == "admin" else tuple(granted.split("+"))

    unasked, codes = outcomes(api, run)

    assert codes == expected(permissions)
    assert ("session_info" in unasked) == ("read" in permissions)
    assert bool(unasked) == ("read" in permissions)


@pytest.mark.parametrize("scopes", SCOPES, ids="+".join)
@pytest.mark.parametrize("granted", ["read+write", "admin"])
def test_every_message_is_answered_as_its_ticket_may(
    gevent: Api, run: Run, granted: str, scopes: tuple[str, ...]
) -> None:
    run.write(b"shown")
    ticket = ticket_of(gevent.as_(f"ada-{granted}-key"), run.session_id, *scopes)

    unasked, codes = outcomes(gevent, run, f"?ticket={ticket}", header={})

    assert codes == expected(scopes)
    assert bool(unasked) == ("read" in scopes)


@pytest.mark.parametrize("scopes", SCOPES, ids="+".join)
def test_a_ticket_opens_streams_and_nothing_else(gevent: Api, run: Run, scopes: tuple[str, ...]) -> None:
    run.end()
    owner = gevent.as_("ada-read+write-key")
    for method, rule in OF_SESSIONS:
        ticket = ticket_of(owner, run.session_id, *scopes)
        path = rule.replace("<session_id:session_id>", str(run.session_id))
        answer = gevent.client.request(method, f"/api/v1{path}?ticket={ticket}", json={} if method == "POST" else None)
        if rule == TICKETED:
            assert answer.status_code == (200 if "read" in scopes else 401), (method, rule)
        else:
            assert answer.status_code == 401, (method, rule)
            assert method == "HEAD" or answer.json()["error_code"] == "API_KEY_REQUIRED"


@pytest.mark.parametrize("scopes", SCOPES, ids="+".join)
def test_a_ticket_of_anothers_session_tells_nothing_of_any(gevent: Api, run: Run, scopes: tuple[str, ...]) -> None:
    """Good for bob's own session: for ada's and for nobody's it is the same ticket that is none."""
    bob = gevent.as_("bob-read+write-key")
    his = bob.create()
    for target in (run.session_id, NOBODYS):
        ticket = ticket_of(bob, his, *scopes)
        answer = gevent.client.get(f"/api/v1/sessions/{target}/stream?ticket={ticket}")
        assert (answer.status_code, answer.json()["error_code"]) == (401, "TICKET_INVALID")
        status, body = refused(gevent, target, f"?ticket={ticket}", header={})
        assert (status, body["error_code"]) == (401, "TICKET_INVALID")


@pytest.mark.parametrize("granted", ["read", "write", "read+write"])
def test_a_refused_socket_tells_nothing_of_the_session(gevent: Api, run: Run, granted: str) -> None:
    """Whole answers: heads and bodies, but for what no two answers share."""

    def answered(target: object) -> tuple[int, dict[str, str], str]:
        raw = Raw(gevent, str(target), Authorization=f"Bearer bob-{granted}-key", X_Request_ID="same")
        try:
            body = json.loads(raw.body()) | {"timestamp": ""}
        finally:
            raw.shut()
        lines = [line.partition(": ") for line in raw.head.decode().split("\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in lines if name.lower() != "date"}
        return raw.status, headers, json.dumps(body)

    hers, nobodys, malformed = answered(run.session_id), answered(NOBODYS), answered("nonsense")

    assert hers == nobodys == malformed
    assert hers[0] == 404


@pytest.mark.parametrize("granted", ["read", "write", "read+write"])
def test_a_live_session_of_anothers_is_answered_like_none(gevent: Api, run: Run, granted: str) -> None:
    bob = gevent.as_(f"bob-{granted}-key")
    for method, rule in OF_SESSIONS:
        assert told(ask(bob, method, rule, run.session_id), run.session_id) == told(
            ask(bob, method, rule, NOBODYS), NOBODYS
        ), (method, rule)
    assert run.fetch() == []


@pytest.fixture
def statements(web: Web) -> Iterator[list[str]]:
    """What PostgreSQL is asked by the process under test: as texts, without values."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(web.database.engine, "before_cursor_execute", note)
    yield asked
    event.remove(web.database.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("granted", ["read", "write", "read+write"])
def test_anothers_session_costs_what_one_costs_that_never_was(
    plain: Api, holder: Holder, statements: list[str], granted: str
) -> None:
    """The same statements in the same order: there is nothing that could take longer."""
    session_id = plain.as_("ada-read+write-key").create()
    holder.run(session_id)
    bob = plain.as_(f"bob-{granted}-key")

    def work_for(method: str, rule: str, target: object) -> list[str]:
        statements.clear()
        ask(bob, method, rule, target)
        # The audit's rows are written beside the request where there is a loop, and the client does not wait for them.
        return [text for text in statements if "audit" not in text]

    for method, rule in OF_SESSIONS:
        assert work_for(method, rule, session_id) == work_for(method, rule, NOBODYS), (method, rule)
