"""Tickets: one stream of one session, once, soon, and never more than the key may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from app.auth import authenticate_ticket
from app.factory import build
from app.keyring import Permission
from core.errors import TicketInvalid
from models.tables import AuditRow
from tests.checks import eventually
from tests.integration.app.reading import parse
from tests.integration.app.serving import Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Gunicorn

NOBODY = "00000000-0000-7000-8000-000000000000"


def ticket_of(api: Api, session_id: UUID, *scopes: str) -> str:
    answer = api.post(f"/sessions/{session_id}/tickets", {"scopes": list(scopes or ("read",))})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def open_with(api: Api, session_id: UUID, ticket: str, **headers: str) -> httpx2.Response:
    """Open a stream as a browser would: no key."""
    return api.client.get(f"/api/v1/sessions/{session_id}/stream?ticket={ticket}", headers=headers)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


INVALID = (401, "TICKET_INVALID")


@pytest.fixture
def ended(api: Api, holder: Holder) -> UUID:
    """A session of ada's whose stream ends by itself."""
    session_id = api.create()
    run = holder.run(session_id)
    run.write(b"hello")
    run.end()
    return session_id


def keyed(api: Api, name: str, *permissions: str, owner: str = "ada", **more: Any) -> tuple[str, Api]:
    """A key of the database: its id, and a client of it."""
    body = {"name": name, "owner": owner, "permissions": list(permissions), **more}
    made = api.as_("root-key").post("/keys", body).json()
    return made["id"], api.as_(made["key"])


def test_a_ticket_opens_a_stream_once(api: Api, ended: UUID) -> None:
    answer = api.post(f"/sessions/{ended}/tickets", {"scopes": ["read"]})
    assert set(answer.json()) == {"ticket", "expires_at"}
    left = datetime.fromisoformat(answer.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < left <= timedelta(seconds=31)
    ticket = answer.json()["ticket"]

    first, second = open_with(api, ended, ticket), open_with(api, ended, ticket)

    assert [event.event for event in parse(first.text.split("\n"))][:2] == ["connected", "output"]
    assert "event: terminated" in first.text
    assert code(second) == INVALID
    assert second.headers["WWW-Authenticate"] == "Bearer"


def test_a_ticket_is_good_at_any_web_process_and_of_many_at_once_one_wins(
    gevent: Api,
    holder: Holder,
    variables: dict[str, str],
    gunicorns: Callable[[dict[str, str]], Gunicorn],
) -> None:
    session_id = gevent.create()
    holder.run(session_id).end()
    other = gunicorns({**variables, "MAX_STREAMS": "3999"})
    with type(gevent.client)(base_url=other.url, timeout=30) as client, ThreadPoolExecutor(16) as pool:
        both = [gevent, Api(client)]
        for _ in range(5):
            ticket = ticket_of(gevent, session_id)
            tries = [pool.submit(open_with, both[number % 2], session_id, ticket) for number in range(16)]
            assert sorted(each.result().status_code for each in tries) == [200, *[401] * 15]


def test_a_ticket_is_good_for_nothing_else(api: Api, ended: UUID) -> None:
    other = api.create()
    ticket = ticket_of(api, ended)

    assert code(open_with(api, other, ticket)) == INVALID
    assert code(open_with(api, ended, ticket[:-1])) == INVALID
    assert code(open_with(api, ended, ticket_of(api, ended, "write"))) == INVALID
    for path in ("", "/output", "/inputs"):
        assert code(api.client.get(f"/api/v1/sessions/{ended}{path}?ticket={ticket}")) == (401, "API_KEY_REQUIRED")
    assert code(api.as_(ticket).get(f"/sessions/{ended}")) == (401, "INVALID_API_KEY")
    assert open_with(api, ended, ticket).status_code == 200


@pytest.mark.parametrize("ticket", ["", "x", "%00", "jmr_ticket_" + "a" * 43, "%ff", "ä"])
def test_what_is_no_ticket_opens_nothing(api: Api, ended: UUID, ticket: str) -> None:
    assert code(open_with(api, ended, ticket)) == INVALID


def test_an_expired_ticket_opens_nothing(api: Api, ended: UUID, web: Web) -> None:
    ticket = ticket_of(api, ended)
    with web.database.transaction() as tx:
        tx.execute(text("UPDATE tickets SET expires_at = clock_timestamp() WHERE session_id = :id"), {"id": ended})

    assert code(open_with(api, ended, ticket)) == INVALID


def test_only_its_hash_is_stored_and_using_it_removes_it(api: Api, ended: UUID, web: Web) -> None:
    ticket = ticket_of(api, ended)

    def rows() -> list[str]:
        with web.database.transaction() as tx:
            wanted = text("SELECT t::text FROM tickets t WHERE session_id = :id")
            return list(tx.scalars(wanted, {"id": ended}))

    assert len(rows()) == 1
    assert ticket.rpartition("_")[2] not in rows()[0]
    open_with(api, ended, ticket)
    assert rows() == []


def test_a_key_in_the_header_beats_a_ticket(api: Api, ended: UUID) -> None:
    ticket = ticket_of(api, ended)

    assert open_with(api, ended, "nonsense", **api.headers).status_code == 200
    assert code(open_with(api, ended, ticket, Authorization="Bearer wrong")) == (401, "INVALID_API_KEY")
    assert open_with(api, ended, ticket, Authorization="Basic YTpi").status_code == 200


def test_nobody_gets_a_ticket_for_more_than_the_key_may(api: Api, ended: UUID, label: str) -> None:
    _, reader = keyed(api, f"{label}-r", "read")
    _, writer = keyed(api, f"{label}-w", "write")

    def asked(by: Api, *scopes: str) -> int:
        return by.post(f"/sessions/{ended}/tickets", {"scopes": list(scopes)}).status_code

    assert [asked(reader, "read"), asked(reader, "write"), asked(reader, "read", "write")] == [201, 403, 403]
    assert [asked(writer, "read"), asked(writer, "write"), asked(writer, "read", "write")] == [403, 201, 403]
    assert [asked(api.as_("root-key"), "read"), asked(api.as_("root-key"), "read", "write")] == [201, 201]


def test_an_administrators_ticket_shows_the_one_session(api: Api, ended: UUID) -> None:
    assert open_with(api, ended, ticket_of(api.as_("root-key"), ended)).status_code == 200


@pytest.mark.parametrize("session_id", [NOBODY, "no-id"])
def test_for_what_is_not_ones_own_there_are_no_tickets(api: Api, ended: UUID, session_id: str) -> None:
    body = {"scopes": ["read"]}
    unknown = api.post(f"/sessions/{session_id}/tickets", body)
    foreign = api.as_("bob-key").post(f"/sessions/{ended}/tickets", body)

    assert code(unknown) == code(foreign) == (404, "SESSION_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [{}, {"scopes": []}, {"scopes": None}, {"scopes": "read"}, {"scopes": ["admin"]}, {"scopes": ["read"], "x": 1}, []],
)
def test_a_ticket_nobody_can_mean_is_refused(plain: Api, body: Any) -> None:
    assert code(plain.post(f"/sessions/{NOBODY}/tickets", body)) == (422, "VALIDATION_FAILED")


def test_a_revoked_keys_tickets_are_void(api: Api, ended: UUID, label: str) -> None:
    key_id, mine = keyed(api, label, "read")
    ticket = ticket_of(mine, ended)
    api.as_("root-key").delete(f"/keys/{key_id}")

    assert code(open_with(api, ended, ticket)) == INVALID


def test_a_ticket_of_a_secret_that_was_replaced_is_void(api: Api, ended: UUID, label: str) -> None:
    key_id, mine = keyed(api, label, "read")
    one, two = ticket_of(mine, ended), ticket_of(mine, ended)
    api.as_("root-key").post(f"/keys/{key_id}/rotate", {"overlap_seconds": 60})
    assert open_with(api, ended, one).status_code == 200
    api.as_("root-key").post(f"/keys/{key_id}/rotate", {})

    assert code(open_with(api, ended, two)) == INVALID


def test_scopes_are_what_the_socket_may(plain: Api, web: Web, holder: Holder) -> None:
    """As the WebSocket's route uses it: any scope lets in, and none but the ticket's is granted."""
    session_id = plain.create()
    app = build(None, web)
    for key, scopes in (("ada-key", {"read"}), ("ada-key", {"write"}), ("root-key", {"read", "write"})):
        ticket = ticket_of(plain.as_(key), session_id, *scopes)
        with app.test_request_context(f"/?ticket={ticket}"):
            caller = authenticate_ticket(session_id)
            assert {permission for permission in Permission if caller.may(permission)} == scopes
            with pytest.raises(TicketInvalid):
                authenticate_ticket(session_id)


def test_a_ticket_leaves_an_audit_row_and_so_does_the_stream_it_opens(api: Api, ended: UUID, web: Web) -> None:
    open_with(api, ended, ticket_of(api, ended))

    with web.database.transaction() as tx:
        rows = tx.scalars(select(AuditRow).where(AuditRow.target == str(ended)).order_by(AuditRow.id)).all()
    assert [(row.action, row.actor, row.outcome) for row in rows] == [
        ("session.create", "ada", "ok"),
        ("session.ticket", "ada", "ok"),
        ("session.stream", "ada", "ok"),
    ]
    assert rows[1].detail == {"scopes": ["read"]}


def test_no_log_shows_a_ticket(
    gevent: Api, holder: Holder, gunicorns: Callable[[dict[str, str]], Gunicorn], variables: dict[str, str]
) -> None:
    session_id = gevent.create()
    holder.run(session_id).end()
    ticket = ticket_of(gevent, session_id)
    for _ in range(2):
        open_with(gevent, session_id, ticket)
    log = gunicorns(variables).log

    def lines() -> list[str]:
        return [line for line in log.read_text(errors="replace").splitlines() if str(session_id) in line]

    eventually(lambda: sum("/stream" in line for line in lines()) >= 2)
    assert ticket.rpartition("_")[2] not in log.read_text(errors="replace")
