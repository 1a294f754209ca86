"""What a program wants decided: shown, answered once, brought to the holder; and nobody is told what is none of theirs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from core.ids import uuid7
from models import claims, requests
from models.inputs import State
from models.requests import NewRequest
from models.tables import AuditRow, Event, Input, Request
from tests.integration.app.holder import ME
from tests.integration.app.talking import talking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api

SECONDS = 15
HUSH = "export TOKEN=hush-hush"


@pytest.fixture
def run(api: Api, holder: Holder) -> Run:
    return holder.run(api.create(program="claude"))


@pytest.fixture
def asked(web: Web, run: Run) -> UUID:
    return want(web, run)


def want(web: Web, run: Run) -> UUID:
    """Let the program want something decided."""
    new = NewRequest(uuid7(), "permission", "Bash", {"command": HUSH}, "sets a variable")
    with web.database.transaction() as tx:
        session = claims.held(tx, run.session_id, run.fence)
        requests.ask(tx, session, new, ME, at=datetime.now(UTC))
    return new.id


@pytest.fixture
def decide(api: Api, run: Run) -> Iterator[Callable[..., Future[httpx2.Response]]]:
    with ThreadPoolExecutor(4) as aside:
        yield lambda asked, **body: aside.submit(api.post, f"/sessions/{run.session_id}/requests/{asked}", body)


def refused(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def row(web: Web, asked: UUID) -> Request:
    with web.database.transaction() as tx:
        return tx.scalars(select(Request).where(Request.id == asked)).one()


def test_what_is_wanted_is_shown_to_whoever_may_read(api: Api, run: Run, asked: UUID) -> None:
    (shown,) = api.get(f"/sessions/{run.session_id}/requests").json()

    assert shown.pop("created_at").endswith("Z")
    assert shown == {
        "request_id": str(asked),
        "session_id": str(run.session_id),
        "kind": "permission",
        "tool": "Bash",
        "input": {"command": HUSH},
        "description": "sets a variable",
        "state": "open",
        **dict.fromkeys(("message", "changed_input", "remember", "decided_by", "decided_at")),
    }
    assert api.get(f"/sessions/{run.session_id}/requests?state=allowed&state=denied").json() == []
    assert len(api.get(f"/sessions/{run.session_id}/requests?state=open").json()) == 1
    assert refused(api.as_("bob-key").get(f"/sessions/{run.session_id}/requests")) == (404, "SESSION_NOT_FOUND")


def test_the_event_tells_that_and_not_what(web: Web, run: Run, asked: UUID) -> None:
    with web.database.transaction() as tx:
        wanted = select(Event).where(Event.session_id == run.session_id, Event.event_type == "session.request")
        (event,) = tx.scalars(wanted)
        payload = dict(event.payload)
    assert payload == {
        "request_id": str(asked),
        "kind": "permission",
        "tool": "Bash",
        "description": "sets a variable",
    }


@pytest.mark.parametrize(
    ("body", "state", "allow"),
    [
        ({"decision": "allow"}, "allowed", True),
        ({"decision": "allow", "input": {"command": "true"}, "remember": "session"}, "allowed", True),
        ({"decision": "deny", "message": "not today"}, "denied", False),
    ],
)
def test_a_decision_reaches_the_holder_once_and_is_noted(
    api: Api, web: Web, holder: Holder, run: Run, asked: UUID, decide: Any, body: Any, state: str, allow: bool
) -> None:
    answer = decide(asked, **body)
    assert holder.hears() == str(run.session_id)
    (letter,) = run.fetch()
    assert letter.kind == "answer"
    assert letter.detail == {
        "request_id": str(asked),
        "allow": allow,
        "input": body.get("input"),
        "message": body.get("message"),
        "remember": body.get("remember", "once"),
    }
    run.deliver(letter)

    told = answer.result(SECONDS)
    assert (told.status_code, told.json()["message"], told.json()["state"]) == (200, "Decision delivered", "written")
    found = row(web, asked)
    assert (found.state, found.decided_by, found.message) == (state, "ada", body.get("message"))
    assert refused(decide(asked, decision="deny").result(SECONDS)) == (409, "REQUEST_SETTLED")
    with web.database.transaction() as tx:
        (noted,) = tx.scalars(
            select(AuditRow).where(
                AuditRow.target == str(run.session_id), AuditRow.action == "session.request", AuditRow.outcome == "ok"
            )
        )
        detail = dict(noted.detail or {})
    assert detail == {
        "request_id": str(asked),
        "kind": "permission",
        "tool": "Bash",
        "decision": body["decision"],
        "remember": body.get("remember", "once"),
    }


def test_of_many_at_once_one_decides(holder: Holder, run: Run, asked: UUID, decide: Any) -> None:
    answers = [decide(asked, decision="allow") for _ in range(4)]
    assert holder.hears() == str(run.session_id)
    (letter,) = run.fetch()
    run.deliver(letter)
    assert sorted(answer.result(SECONDS).status_code for answer in answers) == [200, 409, 409, 409]


def test_what_the_program_does_not_wait_for_any_more_is_refused(
    holder: Holder, run: Run, asked: UUID, decide: Any
) -> None:
    answer = decide(asked, decision="allow")
    holder.hears()
    (letter,) = run.fetch()
    run.deliver(letter, State.FAILED, "withdrawn")
    assert refused(answer.result(SECONDS)) == (409, "REQUEST_SETTLED")


def test_the_end_of_the_session_withdraws_what_is_open(web: Web, run: Run, asked: UUID, decide: Any) -> None:
    run.end()
    assert row(web, asked).state == "withdrawn"
    assert refused(decide(asked, decision="allow").result(SECONDS)) == (409, "SESSION_ENDED")


def test_whoever_may_not_or_says_nothing_is_refused_and_nothing_is_decided(
    api: Api, web: Web, run: Run, asked: UUID
) -> None:
    path = f"/sessions/{run.session_id}/requests/{asked}"
    assert refused(api.as_("bob-key").post(path, {"decision": "allow"})) == (404, "SESSION_NOT_FOUND")
    unknown = f"/sessions/{run.session_id}/requests/{uuid7()}"
    assert refused(api.post(unknown, {"decision": "allow"})) == (404, "REQUEST_NOT_FOUND")
    for body in ({}, {"decision": "maybe"}, {"decision": "allow", "input": "x"}, {"decision": "deny", "why": "x"}):
        assert refused(api.post(path, body)) == (422, "VALIDATION_FAILED")
    assert row(web, asked).state == "open"


def test_a_request_of_another_session_is_none_of_this_one(api: Api, holder: Holder, asked: UUID) -> None:
    other = holder.run(api.create(program="claude"))
    path = f"/sessions/{other.session_id}/requests/{asked}"
    assert refused(api.post(path, {"decision": "allow"})) == (404, "REQUEST_NOT_FOUND")


def test_what_was_given_is_not_among_the_inputs(api: Api, holder: Holder, run: Run, asked: UUID, decide: Any) -> None:
    answer = decide(asked, decision="allow", input={"command": HUSH}, message=HUSH)
    holder.hears()
    run.deliver(run.fetch()[0])
    answer.result(SECONDS)

    (shown,) = api.get(f"/sessions/{run.session_id}/inputs").json()
    assert shown["detail"] == {"request_id": str(asked), "allow": True, "remember": "once"}
    assert "hush" not in json.dumps(shown)


def test_a_socket_answers_as_well(gevent: Api, web: Web, holder: Holder) -> None:
    run = holder.run(gevent.create(program="claude"))
    asked = want(web, run)
    with talking(gevent, run.session_id) as talk:
        talk.say(type="answer", id="1", request_id=str(asked), decision="deny", message="no")
        assert holder.hears() == str(run.session_id)
        run.deliver(run.fetch()[0])
        heard = talk.until("command_result")[-1]
        assert (heard["command"], heard["state"], heard["id"]) == ("answer", "written", "1")
        again = talk.ask(type="answer", request_id=str(asked), decision="allow")
        assert again["error_code"] == "REQUEST_SETTLED"
        assert talk.ask(type="answer", request_id="nothing", decision="allow")["error_code"] == "VALIDATION_FAILED"
    assert row(web, asked).state == "denied"


def test_a_holder_that_asks_again_because_its_reply_was_lost_asks_once(web: Web, run: Run) -> None:
    new = NewRequest(uuid7(), "plan", "ExitPlanMode", {}, None)
    for _ in range(2):
        with web.database.transaction() as tx:
            requests.ask(tx, claims.held(tx, run.session_id, run.fence), new, ME, at=datetime.now(UTC))
    with web.database.transaction() as tx:
        assert (
            len(
                tx.scalars(
                    select(Event).where(Event.session_id == run.session_id, Event.event_type == "session.request")
                ).all()
            )
            == 1
        )
        assert tx.scalars(select(Input).where(Input.session_id == run.session_id)).all() == []
