"""Sessions of a program that converses: its options, what is said to it, other sessions' conversations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from core.ids import uuid7
from models import claims, inputs
from models.inputs import Delivery, State
from models.lifecycle import Reason
from models.tables import Input, Session
from tests.integration.app.holder import ME

if TYPE_CHECKING:
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api

STATE = {
    "conversation_id": "01a20876-96f3-7641-a7dd-835fac400188",
    "version": "2.1.330",
    "model": "claude-sonnet-4-5",
    "query": "answered",
    "turns": 2,
    "cost_usd": 0.25,
    "usage": {"input_tokens": 10, "output_tokens": 3},
}


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    return {**variables, "CLAUDE_MODELS": "opus,sonnet", "CLAUDE_MAX_TURNS": "10"}


@pytest.fixture
def run(api: Api, holder: Holder) -> Run:
    return holder.run(api.create(program="claude"))


def refused(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def faults(answer: httpx2.Response) -> list[list[str]]:
    assert answer.status_code == 422, answer.text
    return [fault["loc"] for fault in answer.json()["errors"]]


def converse(web: Web, session_id: UUID) -> None:
    """Let a session have had a conversation."""
    with web.database.transaction() as tx:
        tx.execute(update(Session).where(Session.id == session_id).values(program_state=STATE))


def rows(web: Web, session_id: UUID) -> list[tuple[bytes, Any, str]]:
    with web.database.transaction() as tx:
        found = tx.scalars(select(Input).where(Input.session_id == session_id).order_by(Input.input_seq))
        return [(bytes(row.body), row.detail, row.state) for row in found]


# Options.


def test_options_are_kept_and_shown_as_they_were_chosen(api: Api) -> None:
    chosen = {"model": "opus", "allowed_tools": ["Read", "Bash(git status *)"], "max_turns": 3}
    session_id = api.create(program="claude", program_options=chosen)
    assert api.get(f"/sessions/{session_id}").json()["program_options"] == chosen
    assert api.get(f"/sessions/{api.create(program='claude')}").json()["program_options"] is None


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"model": "haiku"}, ["model"]),
        ({"model": "--dangerously"}, ["model"]),
        ({"max_turns": 11}, ["max_turns"]),
        ({"max_turns": "x"}, ["max_turns"]),
        ({"permission_mode": "bypassPermissions"}, ["permission_mode"]),
        ({"allowed_tools": ["Bash(a),Write"]}, ["allowed_tools", 0]),
        ({"nonsense": 1}, ["nonsense"]),
        ({"append_system_prompt": "a\0b"}, ["append_system_prompt"]),
    ],
)
def test_options_that_are_none_or_not_allowed_are_named(api: Api, options: Any, where: list[Any]) -> None:
    answer = api.post("/sessions", {"query": "x", "program": "claude", "program_options": options})
    assert faults(answer)[0] == ["program_options", *where]


@pytest.mark.parametrize(
    "body", [{"program_options": {}}, {"fork_of": "01a20876-96f3-7641-a7dd-835fac400188"}], ids=["options", "fork"]
)
def test_other_programs_have_none(api: Api, body: Any) -> None:
    assert faults(api.post("/sessions", {"query": "x", **body})) == [[*body]]


def test_it_has_no_terminal(api: Api) -> None:
    body = {"query": "x", "program": "claude", "terminal": {"rows": 24, "cols": 80}}
    assert faults(api.post("/sessions", body)) == [["terminal"]]


# What is said.


@pytest.mark.parametrize("alone", [False, True])
def test_it_is_told_exactly_what_was_said(api: Api, web: Web, run: Run, alone: bool) -> None:
    said = [("hello", "queue"), ("  no end \n", "steer"), ("ünïcode", "interrupt")]
    for text, mode in said:
        keyed = {"Idempotency-Key": str(uuid7())} if alone else {}
        answer = api.post(f"/sessions/{run.session_id}/input", {"input": text, "mode": mode}, headers=keyed)
        assert answer.status_code == 200, answer.text

    details = [None, {"mode": "steer"}, {"mode": "interrupt"}]
    expected = [(text.encode(), detail, "accepted") for (text, _), detail in zip(said, details, strict=True)]
    assert rows(web, run.session_id) == expected


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_nothing_is_not_said(api: Api, web: Web, run: Run, text: str) -> None:
    assert faults(api.post(f"/sessions/{run.session_id}/input", {"input": text})) == [["input"]]
    assert rows(web, run.session_id) == []


def test_other_programs_have_one_way_of_being_told(api: Api, web: Web, holder: Holder) -> None:
    other = holder.run(api.create())
    path = f"/sessions/{other.session_id}/input"
    assert faults(api.post(path, {"input": "x", "mode": "steer"})) == [["mode"]]
    assert faults(api.post(path, {"input": "x", "mode": "shout"})) == [["mode"]]
    assert api.post(path, {"input": "x", "mode": "queue"}).status_code == 200
    assert rows(web, other.session_id) == [(b"x\n", None, "accepted")]


def test_how_far_it_has_come_is_shown_and_when_it_was_written_stays(api: Api, run: Run, web: Web) -> None:
    for text in ("one", "two"):
        api.post(f"/sessions/{run.session_id}/input", {"input": text})
    one, two = run.fetch()
    run.deliver(one)
    at = datetime.now(UTC)
    with web.database.transaction() as tx:
        states = ((one, State.ANSWERED), (two, State.WRITTEN), (two, State.INTERRUPTED))
        told = [Delivery(run.session_id, each.input_seq, state, at, "why", 7) for each, state in states]
        inputs.report(tx, told)

    shown = api.get(f"/sessions/{run.session_id}/inputs").json()
    assert [each["state"] for each in shown] == ["answered", "interrupted"]
    assert [each["output_offset"] for each in shown] == [0, 7]
    assert all(each["written_at"] for each in shown)


def test_what_was_not_answered_is_offered_to_the_next_holder(api: Api, run: Run, web: Web) -> None:
    for text in ("one", "two", "three"):
        api.post(f"/sessions/{run.session_id}/input", {"input": text})
    one, two, _ = run.fetch()
    run.deliver(one, State.ANSWERED)
    run.deliver(two)
    with web.database.transaction() as tx:
        session = claims.held(tx, run.session_id, run.fence)
        claims.reopen(tx, session, Reason.WORKER_LOST, ME, at=datetime.now(UTC))
    assert [state for *_, state in rows(web, run.session_id)] == ["answered", "accepted", "accepted"]


# Conversations.


def test_what_it_has_used_is_shown(api: Api, web: Web, run: Run) -> None:
    assert api.get(f"/sessions/{run.session_id}").json()["usage"] is None
    converse(web, run.session_id)
    assert api.get(f"/sessions/{run.session_id}").json()["usage"] == {
        "input_tokens": 10,
        "output_tokens": 3,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cost_usd": 0.25,
        "turns": 2,
        "model": "claude-sonnet-4-5",
        "program_version": "2.1.330",
    }


def test_a_conversation_is_gone_on_with_in_a_new_session(api: Api, web: Web, holder: Holder) -> None:
    options = {"model": "opus"}
    before = api.create(program="claude", program_options=options, metadata={"a": 1}, timeout_minutes=5, user_id="u")
    run = holder.run(before)
    converse(web, before)
    path = f"/sessions/{before}/resume"
    assert refused(api.post(path, {"query": "go on"})) == (409, "SESSION_NOT_ENDED")
    run.end()

    answer = api.post(path, {"query": "go on", "metadata": {"b": 2}})

    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert answer.headers["Location"].endswith(f"/api/v1/sessions/{shown['session_id']}")
    assert api.get(f"/sessions/{shown['session_id']}").json()["resumed_from"] == str(before)
    assert (shown["query"], shown["metadata"], shown["user_id"]) == ("go on", {"b": 2}, "u")
    assert (shown["program"], shown["program_options"], shown["fork_of"]) == ("claude", options, None)
    assert api.get(f"/sessions/{before}").json()["status"] == "completed"


def test_what_has_no_conversation_is_not_gone_on_with(api: Api, holder: Holder) -> None:
    for fields in ({"program": "claude"}, {}):
        run = holder.run(api.create(**fields))
        run.end()
        answer = api.post(f"/sessions/{run.session_id}/resume", {"query": "go on"})
        assert refused(answer) == (409, "NO_CONVERSATION")
    path = f"/sessions/{run.session_id}/resume"
    assert refused(api.as_("bob-key").post(path, {"query": "go on"})) == (404, "SESSION_NOT_FOUND")
    assert refused(api.post(path, {})) == (422, "VALIDATION_FAILED")


def test_a_branch_is_made_of_a_live_session_of_ones_own(api: Api, web: Web, run: Run) -> None:
    body = {"query": "x", "program": "claude", "fork_of": str(run.session_id)}
    assert refused(api.post("/sessions", body)) == (409, "NO_CONVERSATION")
    converse(web, run.session_id)
    answer = api.post("/sessions", body)
    assert (answer.status_code, answer.json()["fork_of"]) == (201, str(run.session_id))
    assert refused(api.as_("bob-key").post("/sessions", body)) == (404, "SESSION_NOT_FOUND")
    assert refused(api.post("/sessions", {**body, "fork_of": str(uuid7())})) == (404, "SESSION_NOT_FOUND")
    assert faults(api.post("/sessions", {**body, "fork_of": "nothing"})) == [["fork_of"]]
