"""Creating, showing and listing sessions over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import select

from app import create_app
from app.web import open_web
from core.ids import uuid7
from core.settings import load_settings
from models.tables import AuditRow, Event
from tasks.queue import SESSIONS

if TYPE_CHECKING:
    from pathlib import Path

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api

MEMBERS = {
    *("session_id", "status", "query", "current_directory", "user_id", "claude_process_id", "metadata", "created_at"),
    *("updated_at", "last_activity", "terminated_at", "output_buffer_size", "program", "owner", "exit_code"),
    *("exit_signal", "reason", "reason_detail", "error", "output_bytes", "last_seq", "worker", "task_id", "flower_url"),
    *("started_at", "expires_at", "terminal", "attempt", "priority", "idle_timeout_seconds", "queue_position"),
    *("program_options", "usage", "resumed_from", "fork_of"),
}


def test_a_new_session_is_shown_where_its_location_says(api: Api) -> None:
    body = {"query": "echo hi", "user_id": "u", "metadata": {"a": [1, None, "ä"]}, "timeout_minutes": 5}
    created = api.post("/sessions", body)

    assert created.status_code == 201
    session = created.json()
    assert set(session) == MEMBERS
    assert session["status"] == "initializing"
    assert session["owner"] == "ada"
    assert {name: session[name] for name in ("query", "user_id", "metadata")} == {
        name: body[name] for name in ("query", "user_id", "metadata")
    }
    assert created.headers["Location"] == f"/api/v1/sessions/{session['session_id']}"
    assert api.get(f"/sessions/{session['session_id']}").json() == session


def test_a_new_session_leaves_an_event_and_an_audit_row_of_its_request(api: Api, web: Web) -> None:
    request_id = str(uuid7())
    created = api.post("/sessions", {"query": "true"}, headers={"X-Request-ID": request_id})

    with web.database.transaction() as tx:
        event = tx.scalars(select(Event).where(Event.request_id == request_id)).one()
        deed = tx.scalars(select(AuditRow).where(AuditRow.request_id == request_id)).one()
    assert (event.event_type, str(event.session_id), event.actor) == (
        "session.created",
        created.json()["session_id"],
        "ada",
    )
    assert (deed.action, deed.target, deed.actor, deed.outcome) == (
        "session.create",
        created.json()["session_id"],
        "ada",
        "ok",
    )


def test_a_new_session_asks_for_a_worker(api: Api, web: Web) -> None:
    session_id = str(api.create())

    waiting = web.redis.lrange(f"{SESSIONS}\x06\x163", 0, -1)
    assert any(session_id in json.loads(message)["headers"]["argsrepr"] for message in waiting)


def test_what_stands_in_env_is_never_shown(api: Api) -> None:
    created = api.post("/sessions", {"query": "true", "env": {"TOKEN": "s3cret"}})
    session_id = created.json()["session_id"]

    for answer in (created, api.get(f"/sessions/{session_id}"), api.get("/sessions")):
        assert "s3cret" not in answer.text


def test_numbers_that_postgresql_writes_out_come_back(api: Api) -> None:
    session_id = api.create(metadata={"large": 1e308, "small": 1e-300, "whole": 2**64 - 1})

    shown = api.get(f"/sessions/{session_id}").json()["metadata"]
    assert shown == {"large": 10**308, "small": 1e-300, "whole": 2**64 - 1}


def test_another_owners_session_is_nowhere(api: Api, label: str) -> None:
    session_id = api.create(user_id=label)
    bob, root = api.as_("bob-key"), api.as_("root-key")

    for path in ("", "/output", "/stream"):
        answer = bob.get(f"/sessions/{session_id}{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "SESSION_NOT_FOUND")
    assert bob.post(f"/sessions/{session_id}/input", {"input": "x"}).status_code == 404
    assert bob.delete(f"/sessions/{session_id}").status_code == 404
    assert bob.get(f"/sessions?user_id={label}").json() == []
    assert [session["owner"] for session in root.get(f"/sessions?user_id={label}").json()] == ["ada"]
    assert root.get(f"/sessions/{session_id}").json()["status"] == "initializing"


def test_what_an_administrator_creates_is_the_administrators(api: Api) -> None:
    session_id = api.as_("root-key").create()

    assert api.get(f"/sessions/{session_id}").status_code == 404


def test_a_listing_is_newest_first_and_filtered(api: Api, holder: Holder, label: str) -> None:
    first, second, third = (api.create(user_id=label, program=program) for program in ("echo", "cat", "cat"))
    holder.run(second)

    def listed(**filters: Any) -> list[str]:
        return [session["session_id"] for session in api.get("/sessions", params={"user_id": label, **filters}).json()]

    assert listed() == [str(third), str(second), str(first)]
    assert listed(limit=2) == [str(third), str(second)]
    assert listed(program="cat") == [str(third), str(second)]
    assert listed(status="active") == [str(second)]
    assert listed(status=["active", "initializing"], program="echo") == [str(first)]
    assert listed(status="failed") == []


def test_a_running_session_says_where_and_since_when(api: Api, holder: Holder) -> None:
    session_id = api.create(timeout_minutes=1)
    holder.run(session_id)

    session = api.get(f"/sessions/{session_id}").json()
    assert (session["status"], session["claude_process_id"], session["task_id"]) == ("active", "4711", "delivery")
    assert session["worker"] == str(holder.incarnation)
    assert session["started_at"] < session["expires_at"]


def test_head_is_get_without_the_body(api: Api) -> None:
    session_id = api.create()

    for path in ("/sessions", f"/sessions/{session_id}", f"/sessions/{session_id}/output"):
        answer = api.call("HEAD", path)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(("path", "allowed"), [("", True), ("project", True), ("..", False), ("missing", False)])
def test_a_directory_is_one_below_the_roots(plain: Api, roots: Path, path: str, allowed: bool) -> None:
    (roots / "project").mkdir(exist_ok=True)
    answer = plain.post("/sessions", {"query": "true", "current_directory": f"{roots}/{path}"})

    if allowed:
        assert answer.json()["current_directory"] == f"{roots}/{path}"
    else:
        assert (answer.status_code, answer.json()["error_code"]) == (422, "DIRECTORY_NOT_ALLOWED")


def test_a_program_that_is_not_enabled_is_unknown(plain: Api) -> None:
    answer = plain.post("/sessions", {"query": "true", "program": "emacs"})

    assert (answer.status_code, answer.json()["error_code"]) == (422, "UNKNOWN_PROGRAM")


def test_over_a_keys_cap_a_client_is_asked_to_come_again(variables: dict[str, str], label: str) -> None:
    keys = {"narrow-key": {"permissions": ["read", "write"], "name": label, "max_sessions": 1}}
    web = open_web(load_settings({**variables, "API_KEYS": json.dumps(keys)}))
    client = create_app(world=web).test_client()
    headers = {"Authorization": "Bearer narrow-key"}

    first = client.post("/api/v1/sessions", json={"query": "true"}, headers=headers)
    second = client.post("/api/v1/sessions", json={"query": "true"}, headers=headers)
    client.delete(f"/api/v1/sessions/{first.get_json()['session_id']}", headers=headers)
    third = client.post("/api/v1/sessions", json={"query": "true"}, headers=headers)

    assert [answer.status_code for answer in (first, second, third)] == [201, 429, 201]
    assert second.get_json()["error_code"] == "TOO_MANY_SESSIONS"
    assert int(second.headers["Retry-After"]) > 0
    web.close()


def test_a_session_is_taken_on_while_redis_is_away(variables: dict[str, str]) -> None:
    web = open_web(load_settings({**variables, "REDIS_URL": "redis://127.0.0.1:1/0"}))
    client = create_app(world=web).test_client()
    headers = {"Authorization": "Bearer ada-key"}

    created = client.post("/api/v1/sessions", json={"query": "true"}, headers=headers)
    health = client.get("/health")

    assert created.status_code == 201
    assert (health.status_code, health.get_json()["status"]) == (200, "degraded")
    assert health.get_json()["infrastructure"]["redis"]["status"] == "unhealthy"
    web.close()


# How a session is to run.


def test_what_is_asked_for_is_shown_and_what_is_not_has_its_default(api: Api) -> None:
    wanted = {"terminal": {"rows": 50, "cols": 132}, "idle_timeout_seconds": 90, "priority": "low"}
    asked = api.post("/sessions", {"query": "true", **wanted}).json()
    usual = api.post("/sessions", {"query": "true"}).json()

    assert {name: asked[name] for name in wanted} == wanted
    assert {name: usual[name] for name in wanted} == {
        "terminal": None,
        "idle_timeout_seconds": None,
        "priority": "normal",
    }
    shown = api.get(f"/sessions/{asked['session_id']}").json()
    assert {name: shown[name] for name in wanted} == wanted


def test_a_start_is_sent_with_its_priority(api: Api, web: Web) -> None:
    for priority, queue in (("high", SESSIONS), ("low", f"{SESSIONS}\x06\x166")):
        session_id = str(api.create(priority=priority))
        waiting = web.redis.lrange(queue, 0, -1)
        assert any(session_id in json.loads(message)["headers"]["argsrepr"] for message in waiting)


def test_a_configured_program_has_its_terminal_unless_another_is_asked_for(variables: dict[str, str]) -> None:
    programs = {
        "python": {"argv": ["/usr/bin/python3", "-i"], "terminal": {"rows": 30, "cols": 100}},
        "filter": {"argv": ["/bin/cat"]},
    }
    more = {"JELMORE_PROGRAMS": json.dumps(programs), "SESSION_IDLE_TIMEOUT_SECONDS": "2.5"}
    web = open_web(load_settings({**variables, **more}))
    client = create_app(world=web).test_client()

    def created(**body: Any) -> dict[str, Any]:
        headers = {"Authorization": "Bearer ada-key"}
        shown: dict[str, Any] = client.post("/api/v1/sessions", json={"query": "x", **body}, headers=headers).get_json()
        return shown

    assert created(program="python")["terminal"] == {"rows": 30, "cols": 100}
    assert created(program="python", terminal={"rows": 2, "cols": 3})["terminal"] == {"rows": 2, "cols": 3}
    assert created(program="filter")["terminal"] is None
    assert created()["idle_timeout_seconds"] == 3
    assert created(idle_timeout_seconds=1)["idle_timeout_seconds"] == 1
    web.close()


def test_who_waits_for_a_worker_has_a_place(api: Api, holder: Holder, label: str) -> None:
    """Others' sessions wait as well: places are compared, not counted."""

    def places() -> dict[str, Any]:
        found = api.get("/sessions", params={"user_id": label}).json()
        return {session["session_id"]: session["queue_position"] for session in found}

    first = api.post("/sessions", {"query": "true", "user_id": label}).json()
    second, low, high = (str(api.create(user_id=label, priority=priority)) for priority in ("normal", "low", "high"))
    before = places()
    assert before[high] < before[first["session_id"]] < before[second] < before[low]
    assert before[first["session_id"]] == first["queue_position"] + 1
    assert api.get(f"/sessions/{second}").json()["queue_position"] == before[second]

    holder.run(UUID(high))
    api.delete(f"/sessions/{first['session_id']}")
    after = places()
    assert (after[high], after[first["session_id"]]) == (None, None)
    assert after[second] == before[second] - 2
