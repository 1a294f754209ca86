"""POST signal, interrupt, eof, resize and extend: rows in the mailbox, answered when the holder has carried them out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from core.ids import uuid7
from models.inputs import State
from models.tables import AuditRow, Event, Input, Session
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from uuid import UUID

    import httpx2

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api

SECONDS = 15
SIZE = {"rows": 50, "cols": 132}
ASKED: list[tuple[str, dict[str, Any], str, dict[str, Any] | None, str]] = [
    ("signal", {"signal": "SIGTERM"}, "signal", {"number": 15, "name": "TERM"}, "Signal sent"),
    ("interrupt", {}, "interrupt", {}, "Interrupt sent"),
    ("eof", {}, "eof", None, "End of input sent"),
    ("resize", SIZE, "resize", {**SIZE, "was": {"rows": 24, "cols": 80}}, "Terminal resized"),
    ("extend", {"timeout_minutes": 90}, "extend", {"seconds": 5400}, "Session extended"),
]
EVERY = pytest.mark.parametrize(
    ("verb", "body"), [(verb, body) for verb, body, *_ in ASKED], ids=[it[0] for it in ASKED]
)


@pytest.fixture
def session_id(api: Api) -> UUID:
    return api.create(terminal={"rows": 24, "cols": 80})


@pytest.fixture
def run(session_id: UUID, holder: Holder) -> Run:
    return holder.run(session_id)


@pytest.fixture
def ask(api: Api) -> Iterator[Callable[[UUID, str, Any], Future[httpx2.Response]]]:
    with ThreadPoolExecutor(2) as aside:
        yield lambda session_id, verb, body: aside.submit(api.post, f"/sessions/{session_id}/{verb}", body)


def refused(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error_code"]


def rows(web: Web, session_id: UUID) -> list[Input]:
    with web.database.transaction() as tx:
        return list(tx.scalars(select(Input).where(Input.session_id == session_id)))


def row_of(web: Web, session_id: UUID) -> Session:
    with web.database.transaction() as tx:
        return tx.scalars(select(Session).where(Session.id == session_id)).one()


@pytest.mark.parametrize(("verb", "body", "kind", "detail", "message"), ASKED, ids=[it[0] for it in ASKED])
def test_what_is_asked_reaches_the_holder_and_is_answered_when_it_is_done(
    ask: Any, run: Run, holder: Holder, verb: str, body: dict[str, Any], kind: str, detail: Any, message: str
) -> None:
    answer = ask(run.session_id, verb, body)
    assert holder.hears() == str(run.session_id)
    (letter,) = run.fetch()
    assert (letter.kind, letter.detail, letter.body) == (kind, detail or {}, b"")
    assert not answer.done()
    run.deliver(letter)

    done = answer.result(SECONDS)
    shown = done.json()
    if verb == "extend":
        assert shown.pop("expires_at") is not None
    assert (done.status_code, shown) == (
        200,
        {
            "message": message,
            "session_id": str(run.session_id),
            "input_id": str(letter.input_id),
            "input_seq": 1,
            "state": "written",
        },
    )


@EVERY
def test_it_leaves_an_event_and_an_audit_row(
    ask: Any, run: Run, holder: Holder, web: Web, verb: str, body: dict[str, Any]
) -> None:
    answer = ask(run.session_id, verb, body)
    assert holder.hears()
    run.deliver(run.fetch()[0])
    input_id = answer.result(SECONDS).json()["input_id"]

    with web.database.transaction() as tx:
        told = select(Event.payload).where(Event.session_id == run.session_id, Event.event_type == "session.input")
        (payload,) = tx.scalars(told)
        deed = tx.scalars(
            select(AuditRow)
            .where(AuditRow.action == f"session.{verb}", AuditRow.actor == "ada")
            .where(AuditRow.target == str(run.session_id))
        ).one()
    assert (payload["kind"], payload["input_id"], payload["bytes"]) == (verb, input_id, 0)
    assert deed.detail is not None
    assert deed.detail["input_id"] == input_id


def test_what_takes_long_is_accepted(api: Api, run: Run) -> None:
    answer = api.post(f"/sessions/{run.session_id}/eof", {})

    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
    assert answer.json()["message"] == "Accepted, not carried out yet"


@pytest.mark.parametrize(
    ("verb", "reason", "error"),
    [
        ("eof", "session_ended", (409, "SESSION_ENDED")),
        ("resize", "session_ended", (409, "SESSION_ENDED")),
        ("resize", "no_terminal", (409, "NO_TERMINAL")),
        ("resize", "stdin_closed", (409, "NO_TERMINAL")),
        ("signal", "of another version", (500, "INTERNAL_ERROR")),
    ],
)
def test_what_fails_says_why(
    ask: Any, run: Run, holder: Holder, verb: str, reason: str, error: tuple[int, str]
) -> None:
    answer = ask(run.session_id, verb, {"signal": "INT"} if verb == "signal" else SIZE if verb == "resize" else {})
    assert holder.hears()
    run.deliver(run.fetch()[0], State.FAILED, reason)

    assert refused(answer.result(SECONDS)) == error


def test_an_input_that_has_ended_is_at_its_end(ask: Any, run: Run, holder: Holder) -> None:
    answer = ask(run.session_id, "eof", {})
    assert holder.hears()
    run.deliver(run.fetch()[0], State.FAILED, "stdin_closed")

    assert answer.result(SECONDS).status_code == 200
    assert answer.result().json()["message"] == "The input has ended already"


def test_what_a_lost_worker_was_doing_is_not_called_done(ask: Any, run: Run, holder: Holder) -> None:
    answer = ask(run.session_id, "signal", {"signal": "USR1"})
    assert holder.hears()
    run.deliver(run.fetch()[0], State.UNKNOWN, "worker_lost")

    assert (answer.result(SECONDS).status_code, answer.result().json()["state"]) == (202, "unknown")


# Refused.


@EVERY
def test_nothing_is_asked_of_a_session_that_ends_or_has_ended(
    api: Api, run: Run, verb: str, body: dict[str, Any], web: Web
) -> None:
    api.delete(f"/sessions/{run.session_id}?wait=0")
    assert refused(api.post(f"/sessions/{run.session_id}/{verb}", body)) == (409, "SESSION_ENDING")
    run.end()
    assert refused(api.post(f"/sessions/{run.session_id}/{verb}", body)) == (409, "SESSION_ENDED")
    assert {row.kind for row in rows(web, run.session_id)} == {"stop"}


@pytest.mark.parametrize("verb", ["signal", "interrupt"])
def test_nothing_can_be_signalled_before_there_is_a_process(api: Api, session_id: UUID, verb: str, web: Web) -> None:
    body = {"signal": "INT"} if verb == "signal" else {}

    assert refused(api.post(f"/sessions/{session_id}/{verb}", body)) == (409, "NOT_STARTED")
    assert rows(web, session_id) == []


def test_a_session_on_pipes_has_no_window(api: Api, holder: Holder, web: Web) -> None:
    session_id = api.create()
    holder.run(session_id)

    assert refused(api.post(f"/sessions/{session_id}/resize", SIZE)) == (409, "NO_TERMINAL")
    assert rows(web, session_id) == []


@EVERY
def test_it_needs_sight_of_the_session(api: Api, run: Run, verb: str, body: dict[str, Any]) -> None:
    assert refused(api.as_("bob-key").post(f"/sessions/{run.session_id}/{verb}", body)) == (404, "SESSION_NOT_FOUND")
    assert refused(api.post(f"/sessions/{uuid7()}/{verb}", body)) == (404, "SESSION_NOT_FOUND")


# What is noted in the session's row.


def test_a_new_size_is_shown(ask: Any, api: Api, run: Run, holder: Holder) -> None:
    answer = ask(run.session_id, "resize", SIZE)

    assert eventually(lambda: api.get(f"/sessions/{run.session_id}").json()["terminal"] == SIZE)
    assert holder.hears()
    run.deliver(run.fetch()[0])
    assert answer.result(SECONDS).status_code == 200


def test_more_time_is_counted_from_now(ask: Any, run: Run, holder: Holder, web: Web) -> None:
    before = row_of(web, run.session_id)
    answer = ask(run.session_id, "extend", {"timeout_minutes": 600})
    assert holder.hears()
    run.deliver(run.fetch()[0])
    expires_at = datetime.fromisoformat(answer.result(SECONDS).json()["expires_at"])

    assert before.started_at is not None
    assert expires_at - before.started_at >= timedelta(minutes=600)
    after = row_of(web, run.session_id)
    assert after.expires_at is not None
    assert abs(after.expires_at - expires_at) < timedelta(milliseconds=1)
    assert after.timeout_seconds == before.timeout_seconds


def test_what_has_not_started_gets_its_time_from_its_start(ask: Any, web: Web, session_id: UUID) -> None:
    answer = ask(session_id, "extend", {"timeout_minutes": 7})

    assert eventually(lambda: row_of(web, session_id).timeout_seconds == 420)
    assert (answer.result(SECONDS).status_code, answer.result().json()["expires_at"]) == (202, None)
