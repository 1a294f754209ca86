"""Who gets a WebSocket: everything that can be refused is refused before the upgrade, as any request is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from sqlalchemy import select

from models.tables import AuditRow
from tests.checks import eventually
from tests.integration.app.serving import Api
from tests.integration.app.talking import Raw, refused, talking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Gunicorn

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def session_id(gevent: Api) -> UUID:
    return gevent.create()


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    status, body = answer
    assert set(body) >= {"detail", "error_code", "timestamp"}
    return status, body["error_code"]


@pytest.fixture
def guarded(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Iterator[Api]:
    """A service that lets in the pages of one origin alone."""
    served = gunicorns({**variables, "CORS_ORIGINS": '["https://here.example"]'})
    with httpx2.Client(base_url=served.url, timeout=30) as client:
        yield Api(client)


def test_without_a_key_or_with_a_wrong_one_there_is_no_socket(gevent: Api, session_id: UUID) -> None:
    assert code(refused(gevent, session_id, header={})) == (401, "API_KEY_REQUIRED")
    assert code(refused(gevent, session_id, header={"Authorization": "Bearer nonsense"})) == (401, "INVALID_API_KEY")
    assert code(refused(gevent, session_id, "?api_key=ada-key", header={})) == (400, "KEY_IN_QUERY")


def test_anothers_session_is_as_one_that_never_was(gevent: Api, session_id: UUID) -> None:
    hers, nobodys = (refused(gevent.as_("bob-key"), target) for target in (session_id, NOBODY))
    malformed = refused(gevent, "nonsense")

    assert code(hers) == code(nobodys) == code(malformed) == (404, "SESSION_NOT_FOUND")
    assert hers[1]["detail"] == nobodys[1]["detail"]


def test_a_browser_offers_its_key_as_a_subprotocol_and_hears_only_the_others_name(
    gevent: Api, session_id: UUID
) -> None:
    for offer in (["jelmore.v1", "bearer.ada-key"], ["bearer.ada-key", "jelmore.v1"]):
        with talking(gevent, session_id, header={}, subprotocols=offer) as talk:
            assert talk.connection.subprotocol == "jelmore.v1"
            assert talk.hear()["event"] == "session_info"
    offer = ["jelmore.v1", "bearer.nonsense"]
    assert code(refused(gevent, session_id, header={}, subprotocols=offer)) == (401, "INVALID_API_KEY")


def test_a_key_in_a_subprotocol_counts_nowhere_else(gevent: Api, session_id: UUID) -> None:
    answer = gevent.client.get(
        f"/api/v1/sessions/{session_id}", headers={"Sec-WebSocket-Protocol": "jelmore.v1, bearer.ada-key"}
    )

    assert answer.status_code == 401


def test_who_speaks_another_subprotocol_is_refused_and_who_names_none_is_not(gevent: Api, session_id: UUID) -> None:
    assert code(refused(gevent, session_id, subprotocols=["graphql-ws"])) == (400, "INVALID_HANDSHAKE")
    with talking(gevent, session_id, subprotocols=None) as talk:
        assert talk.connection.subprotocol is None
        assert talk.hear()["event"] == "session_info"


def test_pages_of_other_origins_are_refused_whatever_key_they_have(guarded: Api) -> None:
    session_id = guarded.create()
    for origin in ("https://evil.example", "null", "https://here.example.evil.example", "http://here.example", ""):
        with_key = refused(guarded, session_id, suppress_origin=False, origin=origin or "https://")
        without = refused(guarded, session_id, suppress_origin=False, origin=origin or "https://", header={})
        assert code(with_key) == code(without) == (403, "INSUFFICIENT_PERMISSIONS")
    with talking(guarded, session_id, suppress_origin=False, origin="https://here.example") as talk:
        assert talk.hear()["event"] == "session_info"
    with talking(guarded, session_id) as talk:  # no page at all
        assert talk.hear()["event"] == "session_info"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Version": None},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": "short"},
        {"Sec_WebSocket_Key": "!" * 24},
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"Connection": None, "Upgrade": None},
        {"Content_Length": "2"},
    ],
    ids=str,
)
def test_a_faulty_handshake_is_answered_in_the_shape_of_errors(
    gevent: Api, session_id: UUID, headers: dict[str, str | None]
) -> None:
    raw = Raw(gevent, session_id, **headers)
    try:
        assert raw.status == 400
        body = json.loads(raw.body())
        assert body["error_code"] == "INVALID_HANDSHAKE"
    finally:
        raw.shut()


def test_http_without_persistence_has_no_sockets(gevent: Api, session_id: UUID) -> None:
    raw = Raw(gevent, session_id, line=f"GET /api/v1/sessions/{session_id}/ws HTTP/1.0")
    assert raw.status == 400
    raw.shut()


def test_other_paths_open_no_socket(gevent: Api, session_id: UUID) -> None:
    raw = Raw(gevent, "", line=f"GET /api/v1/sessions/{session_id}/output HTTP/1.1")
    assert (raw.status, json.loads(raw.body())["error_code"]) == (400, "INVALID_HANDSHAKE")
    raw.shut()


def test_compression_is_not_agreed_to(gevent: Api, session_id: UUID) -> None:
    raw = Raw(gevent, session_id, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits, x-junk; a=b")
    assert raw.status == 101
    assert b"extensions" not in raw.head.lower()
    assert b"sec-websocket-protocol: jelmore.v1" in raw.head.lower()
    raw.shut()


@pytest.mark.parametrize("host", ["x" * 300, "\xfc\xff.example", "a..b", "[::1", "-"])
def test_no_host_breaks_a_handshake(gevent: Api, session_id: UUID, host: str) -> None:
    raw = Raw(gevent, session_id, Host=host)
    assert raw.status in (101, 400)  # gunicorn itself refuses some of them
    raw.shut()


@pytest.mark.parametrize("query", ["?after=99", "?after=x", "?after=-1", "?tail=x"])
def test_a_place_that_is_none_is_refused_before_the_upgrade(gevent: Api, session_id: UUID, query: str) -> None:
    assert code(refused(gevent, session_id, query)) == (400, "INVALID_POSITION")


def test_over_the_cap_sockets_are_refused_and_places_come_back(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]
) -> None:
    served = gunicorns({**variables, "MAX_STREAMS": "2"})
    with httpx2.Client(base_url=served.url, timeout=30) as client:
        api = Api(client)
        session_id = api.create()
        for _ in range(2):
            with talking(api, session_id) as one, talking(api, session_id) as two:
                one.hear(), two.hear()
                status, body = refused(api, session_id)
                assert (status, body["error_code"]) == (503, "TOO_MANY_STREAMS")
                assert client.get("/health/ready").status_code == 200
            eventually(lambda: places(client) == 0)
        for _ in range(3):  # what is refused holds no place either
            assert code(refused(api, session_id, "?after=99")) == (400, "INVALID_POSITION")
        assert places(client) == 0


def places(client: httpx2.Client) -> int:
    stats = client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]
    return int(stats["total_connections"])


def ticket_of(api: Api, session_id: UUID, *scopes: str) -> str:
    answer = api.post(f"/sessions/{session_id}/tickets", {"scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def test_a_ticket_opens_one_socket_of_its_session_once(gevent: Api, session_id: UUID) -> None:
    other = gevent.create()
    ticket = ticket_of(gevent, session_id, "read", "write")
    assert code(refused(gevent, other, f"?ticket={ticket}", header={})) == (401, "TICKET_INVALID")
    ticket = ticket_of(gevent, session_id, "read", "write")
    with talking(gevent, session_id, f"?ticket={ticket}", header={}) as talk:
        assert talk.hear()["event"] == "session_info"
        assert talk.ask(type="input", content="x")["event"] == "input_received"
    assert code(refused(gevent, session_id, f"?ticket={ticket}", header={})) == (401, "TICKET_INVALID")


def test_a_ticket_of_another_origins_page_is_not_used_up(guarded: Api) -> None:
    session_id = guarded.create()
    ticket = ticket_of(guarded, session_id, "read")
    evil = {"suppress_origin": False, "origin": "https://evil.example", "header": {}}
    assert code(refused(guarded, session_id, f"?ticket={ticket}", **evil)) == (403, "INSUFFICIENT_PERMISSIONS")
    with talking(guarded, session_id, f"?ticket={ticket}", header={}) as talk:
        assert talk.hear()["event"] == "session_info"


def test_a_tickets_scopes_bound_what_the_socket_may(gevent: Api, session_id: UUID) -> None:
    reading = ticket_of(gevent, session_id, "read")
    with talking(gevent, session_id, f"?ticket={reading}", header={}) as talk:
        assert talk.hear()["event"] == "session_info"
        assert talk.ask(type="input", content="x")["error_code"] == "INSUFFICIENT_PERMISSIONS"
    writing = ticket_of(gevent, session_id, "write")
    with talking(gevent, session_id, f"?ticket={writing}", header={}) as talk:
        assert talk.ask(type="get_status")["error_code"] == "INSUFFICIENT_PERMISSIONS"


def test_sockets_and_refusals_are_in_the_audit_and_no_key_is_in_the_log(
    gevent: Api,
    session_id: UUID,
    web: Web,
    holder: Holder,
    variables: dict[str, str],
    gunicorns: Callable[[dict[str, str]], Gunicorn],
) -> None:
    with talking(gevent, session_id, header={}, subprotocols=["jelmore.v1", "bearer.ada-key"]) as talk:
        talk.hear()
    refused(gevent.as_("bob-key"), session_id)

    def noted() -> bool:
        of_it = (AuditRow.target == str(session_id), AuditRow.action == "session.ws")
        with web.database.transaction() as tx:
            rows = tx.scalars(select(AuditRow).where(*of_it).order_by(AuditRow.id)).all()
        return [(row.actor, row.outcome) for row in rows] == [("ada", "ok"), ("bob", "SESSION_NOT_FOUND")]

    eventually(noted)
    log = gunicorns(variables).log
    eventually(lambda: f"/sessions/{session_id}/ws" in log.read_text())
    assert "ada-key" not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines() if f"{session_id}/ws" in line]
    lines = [line for line in lines if line["event"] == "request"]
    assert sorted((line["key"], line["status"]) for line in lines) == [("ada", 101), ("bob", 404)]
