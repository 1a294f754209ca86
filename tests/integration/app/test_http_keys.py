"""Keys of the database over HTTP: made, used, rotated, revoked; shown once, and found nowhere afterwards."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from app.stored_keys import KEPT_SECONDS
from core.ids import uuid7
from models.tables import ApiKey, AuditRow, Event
from tests.checks import eventually
from tests.integration.app.serving import Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from app.web import Web
    from tests.integration.app.serving import Gunicorn

SPELLING = re.compile(r"jmr_[0-9a-f]{32}_[A-Za-z0-9]{43}")
MEMBERS = {
    *("id", "name", "owner", "permissions", "rate_limits", "max_sessions", "created_at", "created_by", "expires_at"),
    *("last_used_at", "rotated_at", "previous_expires_at", "revoked_at"),
}
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def root(api: Api) -> Api:
    return api.as_("root-key")


@pytest.fixture
def made(root: Api, label: str) -> dict[str, Any]:
    return make(root, label)


def make(root: Api, name: str, **more: Any) -> dict[str, Any]:
    answer = root.post("/keys", {"name": name, "permissions": ["read", "write"], **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def gets_in(root: Api, key: str) -> bool:
    answer = root.as_(key).get("/sessions")
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_new_key_gets_in_and_is_shown_only_once(root: Api, made: dict[str, Any], label: str) -> None:
    assert SPELLING.fullmatch(made["key"])
    assert set(made) == MEMBERS | {"key"}
    assert (made["owner"], made["permissions"], made["created_by"]) == (label, ["read", "write"], "root")
    assert gets_in(root, made["key"])

    shown = root.get(f"/keys/{made['id']}")
    listed = root.get("/keys?limit=1000")
    assert set(shown.json()) == MEMBERS
    assert made["id"] in [key["id"] for key in listed.json()]
    secret = made["key"].rpartition("_")[2]
    assert secret not in shown.text + listed.text


def test_its_location_shows_it(root: Api, label: str) -> None:
    created = root.post("/keys", {"name": label, "permissions": ["read"]})

    assert root.client.get(created.headers["Location"], headers=root.headers).json()["name"] == label


def test_a_secret_is_stored_nowhere(root: Api, made: dict[str, Any], web: Web) -> None:
    rotated = root.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()
    gets_in(root, rotated["key"])
    root.as_(made["key"][:-1] + "_").get("/sessions")
    secrets = [shown["key"].rpartition("_")[2] for shown in (made, rotated)]

    with web.database.transaction() as tx:
        for table in ("api_keys", "audit", "events", "tickets", "sessions"):
            rows = "\n".join(tx.scalars(text(f"SELECT t::text FROM {table} t")))
            assert not any(secret in rows for secret in secrets), table


def test_a_key_makes_sessions_for_its_owner_up_to_its_number(root: Api, label: str) -> None:
    made = make(root, label, owner=f"team-{label}", max_sessions=1)
    mine = root.as_(made["key"])
    session_id = mine.create()

    assert mine.get(f"/sessions/{session_id}").json()["owner"] == f"team-{label}"
    assert code(mine.post("/sessions", {"query": "true"})) == (429, "TOO_MANY_SESSIONS")
    mine.delete(f"/sessions/{session_id}")


def test_keys_leave_events_and_audit_rows(root: Api, made: dict[str, Any], web: Web) -> None:
    root.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 5})
    root.delete(f"/keys/{made['id']}")
    root.delete(f"/keys/{made['id']}")  # is revoked already: nothing happens

    with web.database.transaction() as tx:
        of_it = Event.payload["key_id"].astext == made["id"]
        events = tx.execute(select(Event.event_type, Event.owner).where(of_it).order_by(Event.position)).all()
        deeds = tx.scalars(select(AuditRow.action).where(AuditRow.target == made["id"]).order_by(AuditRow.id)).all()
    assert [tuple(event) for event in events] == [
        (kind, made["owner"]) for kind in ("key.created", "key.rotated", "key.revoked")
    ]
    assert list(deeds) == ["key.create", "key.rotate", "key.revoke", "key.revoke"]


def test_a_revoked_key_is_out_at_once_where_it_was_revoked(root: Api, made: dict[str, Any]) -> None:
    assert gets_in(root, made["key"])

    revoked = root.delete(f"/keys/{made['id']}")

    assert (revoked.status_code, set(revoked.json())) == (200, MEMBERS)
    assert revoked.json()["revoked_at"] is not None
    assert not gets_in(root, made["key"])
    assert root.delete(f"/keys/{made['id']}").json() == revoked.json()
    assert code(root.post(f"/keys/{made['id']}/rotate", {})) == (404, "NOT_FOUND")
    assert made["id"] not in [key["id"] for key in root.get("/keys?limit=1000").json()]
    assert made["id"] in [key["id"] for key in root.get("/keys?limit=1000&revoked=true").json()]


def test_a_revoked_key_is_out_within_seconds_in_every_other_process(
    gevent: Api, variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], label: str
) -> None:
    other = gunicorns({**variables, "MAX_STREAMS": "3999"})
    made = make(gevent.as_("root-key"), label)
    with type(gevent.client)(base_url=other.url, timeout=30) as client:
        there = Api(client, "root-key")
        assert gets_in(there, made["key"])
        gevent.as_("root-key").delete(f"/keys/{made['id']}")

        eventually(lambda: not gets_in(there, made["key"]), KEPT_SECONDS + 1)


def test_an_expired_key_is_out_though_it_was_just_used(root: Api, label: str) -> None:
    made = make(root, label, expires_at=soon(1.5))
    assert gets_in(root, made["key"])

    eventually(lambda: not gets_in(root, made["key"]), 4)


def test_an_expired_key_leaves_its_name_to_the_next(root: Api, label: str) -> None:
    first = make(root, label, expires_at=soon(0.5))
    assert code(root.post("/keys", {"name": label, "permissions": ["read"]})) == (422, "VALIDATION_FAILED")

    def again() -> bool:
        return root.post("/keys", {"name": label, "permissions": ["read"]}).status_code == 201

    eventually(again)
    assert root.get(f"/keys/{first['id']}").json()["revoked_at"] is not None


def test_a_rotated_key_is_taken_beside_the_new_one_as_long_as_said(root: Api, made: dict[str, Any]) -> None:
    rotated = root.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 2}).json()

    assert set(rotated) == MEMBERS | {"key"}
    assert (rotated["id"], rotated["name"]) == (made["id"], made["name"])
    assert gets_in(root, made["key"])
    assert gets_in(root, rotated["key"])
    eventually(lambda: not gets_in(root, made["key"]), 5)
    assert gets_in(root, rotated["key"])


@pytest.mark.parametrize("body", [{}, None, {"overlap_seconds": 0}, {"overlap_seconds": None}])
def test_without_an_overlap_the_old_key_is_out_at_once(root: Api, made: dict[str, Any], body: Any) -> None:
    path = f"/keys/{made['id']}/rotate"
    rotated = (root.call("POST", path) if body is None else root.post(path, body)).json()

    assert not gets_in(root, made["key"])
    assert gets_in(root, rotated["key"])


def test_rotated_twice_only_the_last_two_are_taken(root: Api, made: dict[str, Any]) -> None:
    keys = [
        made["key"],
        *(root.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()["key"] for _ in "12"),
    ]

    assert [gets_in(root, key) for key in keys] == [False, True, True]


def test_names_are_unique_among_live_keys_and_those_of_the_environment(root: Api, made: dict[str, Any]) -> None:
    for name in (made["name"], "ada", "root"):
        answer = root.post("/keys", {"name": name, "permissions": ["read"]})
        assert code(answer) == (422, "VALIDATION_FAILED")
        assert answer.json()["errors"][0]["loc"] == ["name"]

    root.delete(f"/keys/{made['id']}")
    assert make(root, made["name"])["id"] != made["id"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"owner": ""}, "owner"),
        ({"permissions": []}, "permissions"),
        ({"permissions": "read"}, "permissions"),
        ({"permissions": ["delete"]}, "permissions"),
        ({"permissions": None}, "permissions"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": 1e12}, "expires_at"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"max_sessions": True}, "max_sessions"),
        ({"max_sessions": 2**31}, "max_sessions"),
        ({"rate_limits": {"streaming": "many"}}, "rate_limits"),
        ({"rate_limits": {"nothing": "1/second"}}, "rate_limits"),
        ({"secret": "mine"}, "secret"),
    ],
    ids=str,
)
def test_a_key_nobody_can_mean_is_refused_where_it_is_wrong(plain: Api, body: dict[str, Any], loc: str) -> None:
    answer = plain.as_("root-key").post("/keys", {"name": str(uuid7()), "permissions": ["read"], **body})

    assert code(answer) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["loc"][0] == loc


@pytest.mark.parametrize("overlap", [-1, 2592001, "1", 1.5])
def test_an_overlap_nobody_can_mean_is_refused(plain: Api, label: str, overlap: Any) -> None:
    root = plain.as_("root-key")
    made = make(root, label)

    answer = root.post(f"/keys/{made['id']}/rotate", {"overlap_seconds": overlap})

    assert code(answer) == (422, "VALIDATION_FAILED")
    assert gets_in(root, made["key"])


@pytest.mark.parametrize("key_id", [NOBODY, "no-id", "%00"])
def test_an_unknown_key_is_not_found(plain: Api, key_id: str) -> None:
    root = plain.as_("root-key")
    answers = [root.get(f"/keys/{key_id}"), root.delete(f"/keys/{key_id}"), root.post(f"/keys/{key_id}/rotate", {})]

    assert [code(answer) for answer in answers] == [(404, "NOT_FOUND")] * 3


def test_keys_are_listed_page_by_page(plain: Api) -> None:
    root = plain.as_("root-key")
    made = [make(root, str(uuid7()))["id"] for _ in range(5)]
    seen: list[str] = []
    path = "/api/v1/keys?limit=2&revoked=true"
    while made[0] not in seen:
        answer = root.client.get(path, headers=root.headers)
        seen += [key["id"] for key in answer.json()]
        path = answer.headers.get("Link", "").removeprefix("<").partition(">")[0]

    assert seen[:5] == made[::-1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda key: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key: key + "a",
        lambda key: key[:-1],
        lambda key: key.upper(),
        lambda key: f"jmr_{uuid7().hex}_{key[-43:]}",
        lambda key: f"jmr_{UUID(key[4:36])}_{key[-43:]}",
        lambda key: f"jmr_{'0' * 32}_{key[-43:]}",
    ],
)
def test_what_is_almost_a_key_is_none(root: Api, made: dict[str, Any], wrong: Callable[[str], str]) -> None:
    assert gets_in(root, made["key"])

    answer = root.as_(wrong(made["key"])).get("/sessions")

    assert code(answer) == (401, "INVALID_API_KEY")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_when_a_key_was_used_is_written_beside_its_requests_and_once_a_minute(plain: Api, web: Web, label: str) -> None:
    made = make(plain.as_("root-key"), label)
    stored = web.key_watch._stored

    def last_used() -> datetime | None:
        with web.database.transaction() as tx:
            return tx.scalars(select(ApiKey.last_used_at).where(ApiKey.id == UUID(made["id"]))).one()

    gets_in(plain, made["key"])
    assert last_used() is None
    stored.write_used()
    first = last_used()
    gets_in(plain, made["key"])
    stored.write_used()
    assert first == last_used()
    with web.database.transaction() as tx:
        tx.execute(text("UPDATE api_keys SET last_used_at = last_used_at - interval '61 s' WHERE id = :id"), made)
    gets_in(plain, made["key"])
    stored.write_used()

    assert first is not None
    assert first < (last_used() or first)


def test_no_log_shows_a_key(
    gevent: Api, gunicorns: Callable[[dict[str, str]], Gunicorn], variables: dict[str, str], label: str
) -> None:
    root = gevent.as_("root-key")
    made = make(root, label)
    gets_in(root, made["key"])
    root.get(f"/sessions?key={made['key']}")
    root.as_(made["key"] + "x").get("/sessions")
    log: Path = gunicorns(variables).log

    eventually(lambda: label in log.read_text(errors="replace"))
    assert made["key"].rpartition("_")[2] not in log.read_text(errors="replace")
