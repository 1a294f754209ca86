"""Who may do what: another owner's session does not exist; reading is not writing, and writing is not reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client import SESSIONS
from tests.service import ADA_READS, ADA_WRITES, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client import Answer, Client
    from tests.service import Service

READS = ("", "/output", "/stream", "/stream?after=0", "/output?limit=1")


@pytest.fixture
def hers(ada: Client) -> Iterator[str]:
    """A running session of ada's."""
    session_id = ada.create("ready", program="cat", user_id="someone")
    yield session_id
    ada.delete(session_id)


def on_every_route(client: Client, session_id: str) -> dict[str, Answer]:
    """Do to a session whatever can be done; what follows a live one is answered as HEAD, which ends."""
    answers = {f"GET {path}": client.request("HEAD", f"{SESSIONS}/{session_id}{path}") for path in READS}
    answers["POST input"] = client.input(session_id, "hello")
    answers["DELETE"] = client.delete(session_id, "?wait=0")
    return answers


def test_another_owners_session_does_not_exist(service: Service, hers: str) -> None:
    bob = service.client(BOB)
    unknown = on_every_route(bob, "00000000-0000-7000-8000-000000000000")

    for route, answer in on_every_route(bob, hers).items():
        assert answer.status == unknown[route].status == 404, route
    refused = bob.request("GET", f"{SESSIONS}/{hers}")
    assert refused.json()["error_code"] == "SESSION_NOT_FOUND"
    assert hers not in str(refused.body)
    assert service.ada.get(hers)["terminated_at"] is None
    assert hers not in [shown["session_id"] for shown in bob.request("GET", SESSIONS).json()]
    assert bob.request("GET", f"{SESSIONS}?user_id=someone").json() == []


def test_what_a_stranger_sends_never_arrives(service: Service, hers: str) -> None:
    service.client(BOB).input(hers, "intruder")
    service.ada.input(hers, "owner")
    with service.ada.follow(hers) as stream:
        stream.until("input")
    service.ada.delete(hers)

    assert service.ada.output(hers) == b"ready\nowner\n"


def test_a_key_that_reads_cannot_write(service: Service, hers: str) -> None:
    reader = service.client(ADA_READS)

    assert reader.get(hers)["session_id"] == hers
    refused = [
        reader.request("POST", SESSIONS, {"query": "true"}),
        reader.input(hers, "hello"),
        reader.delete(hers, "?wait=0"),
    ]
    assert {(answer.status, answer.json()["error_code"]) for answer in refused} == {(403, "INSUFFICIENT_PERMISSIONS")}


def test_a_key_that_writes_cannot_read(service: Service, hers: str) -> None:
    writer = service.client(ADA_WRITES)
    refused = [writer.request("GET", f"{SESSIONS}/{hers}{path}") for path in READS]
    refused.append(writer.request("GET", SESSIONS))

    assert {(answer.status, answer.json()["error_code"]) for answer in refused} == {(403, "INSUFFICIENT_PERMISSIONS")}
    assert writer.input(hers, "hello").status == 200
    assert writer.delete(hers).status == 200


def test_keys_of_one_owner_see_the_same_sessions(service: Service) -> None:
    session_id = service.client(ADA_WRITES).create("true")

    assert service.client(ADA_READS).get(session_id)["owner"] == "ada"
    assert service.ada.events(session_id)[-1].event == "terminated"


def test_an_administrator_sees_every_owner(service: Service, hers: str) -> None:
    his = service.client(BOB).create("true")

    assert {service.admin.get(hers)["owner"], service.admin.get(his)["owner"]} == {"ada", "bob"}
    listed = {shown["session_id"] for shown in service.admin.request("GET", f"{SESSIONS}?limit=1000").json()}
    assert {hers, his} <= listed
