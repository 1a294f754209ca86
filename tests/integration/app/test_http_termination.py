"""DELETE: who ends a session, and what is said when."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sqlalchemy import select

from core.ids import uuid7
from models.lifecycle import Reason
from models.tables import Input
from tests.integration.app.reading import events_of

if TYPE_CHECKING:
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


def stops(web: Web, session_id: UUID) -> list[Input]:
    with web.database.transaction() as tx:
        return list(tx.scalars(select(Input).where(Input.session_id == session_id, Input.kind == "stop")))


def test_a_session_nobody_holds_ends_at_once_and_for_every_reader(api: Api) -> None:
    session_id = api.create()
    answer = api.delete(f"/sessions/{session_id}?reason=not needed")

    assert answer.status_code == 200
    assert answer.json() == {
        "message": "Session terminated successfully",
        "session_id": str(session_id),
        "reason": "not needed",
    }
    session = api.get(f"/sessions/{session_id}").json()
    assert (session["status"], session["reason"], session["reason_detail"]) == ("terminated", "requested", "not needed")
    assert (session["exit_code"], session["exit_signal"], session["started_at"]) == (None, None, None)
    final = events_of(api, session_id)[-1]
    assert final.event == "terminated"
    assert (final.data["output_bytes"], final.data["output_sha256"]) == (0, hashlib.sha256(b"").hexdigest())


def test_ending_what_has_ended_changes_nothing(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).end(Reason.EXIT_CODE, exit_code=7)
    before = api.get(f"/sessions/{session_id}").json()

    answer = api.delete(f"/sessions/{session_id}?reason=late")

    assert (answer.status_code, answer.json()["reason"]) == (200, "exit_code")
    assert api.get(f"/sessions/{session_id}").json() == before


def test_the_holder_is_asked_once_and_rung_each_time(api: Api, holder: Holder, web: Web) -> None:
    session_id = api.create()
    holder.run(session_id)
    answers = [api.delete(f"/sessions/{session_id}?wait=0&reason={reason}") for reason in ("first", "second", "third")]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert {answer.json()["message"] for answer in answers} == {"Session termination requested"}
    assert {answer.json()["reason"] for answer in answers} == {"first"}
    assert [row.detail for row in stops(web, session_id)] == [{"reason": "first"}]
    assert [holder.hears() for _ in range(3)] == [str(session_id)] * 3
    assert api.get(f"/sessions/{session_id}").json()["status"] == "terminating"


def test_the_answer_comes_when_the_session_is_gone(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)

    with ThreadPoolExecutor(1) as aside:
        answer = aside.submit(api.delete, f"/sessions/{session_id}?wait=20")
        assert holder.hears() == str(session_id)
        assert not answer.done()
        run.end(Reason.SIGNAL, exit_code=None)

        assert answer.result(timeout=5).status_code == 200
    session = api.get(f"/sessions/{session_id}").json()
    assert (session["status"], session["reason"]) == ("terminated", "requested")


def test_what_is_not_there_cannot_be_ended(api: Api) -> None:
    assert api.delete(f"/sessions/{uuid7()}").status_code == 404
