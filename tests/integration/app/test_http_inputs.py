"""POST input: durable, in order, and the holder told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from models.tables import AuditRow, Event, Input
from tasks.queue import redis_lists

if TYPE_CHECKING:
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


def rows(web: Web, session_id: UUID) -> list[Input]:
    with web.database.transaction() as tx:
        return list(tx.scalars(select(Input).where(Input.session_id == session_id).order_by(Input.input_seq)))


def test_inputs_are_numbered_and_stored_exactly(api: Api, web: Web) -> None:
    session_id = api.create()
    bodies = [{"input": "ä"}, {"input": "b\n", "metadata": {"a": 1}}, {"input": "c", "raw": True}, {"input": ""}]
    answers = [api.post(f"/sessions/{session_id}/input", body) for body in bodies]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json()["input_seq"] for answer in answers] == [1, 2, 3, 4]
    assert [answer.json()["input_length"] for answer in answers] == [2, 2, 1, 0]
    assert {answer.json()["message"] for answer in answers} == {"Input sent successfully"}
    stored = rows(web, session_id)
    assert [row.body for row in stored] == ["ä\n".encode(), b"b\n", b"c", b"\n"]
    assert [str(row.id) for row in stored] == [answer.json()["input_id"] for answer in answers]
    assert [row.metadata_ for row in stored] == [None, {"a": 1}, None, None]


def test_an_input_rings_its_holder_twice_over(api: Api, holder: Holder, web: Web) -> None:
    session_id = api.create()
    holder.run(session_id)
    api.post(f"/sessions/{session_id}/input", {"input": "x"})

    assert holder.hears() == str(session_id)
    # The second bell is a task on the holder's own queue; under gevent it is sent beside the answer.
    lists = redis_lists(f"{holder.node}.dq2")
    message = web.redis.blpop(lists, timeout=5)
    assert message is not None
    assert str(session_id) in json.loads(message[1])["headers"]["argsrepr"]


def test_an_input_leaves_an_event_and_an_audit_row_without_its_text(api: Api, web: Web) -> None:
    session_id = api.create()
    api.post(f"/sessions/{session_id}/input", {"input": "s3cret"})

    with web.database.transaction() as tx:
        wanted = select(Event).where(Event.session_id == session_id, Event.event_type == "session.input")
        event = tx.scalars(wanted).one()
        deed = tx.scalars(
            select(AuditRow).where(AuditRow.target == str(session_id), AuditRow.action == "session.input")
        ).one()
    assert event.payload["bytes"] == 7
    assert "s3cret" not in f"{event.payload} {deed.detail}"


@pytest.mark.parametrize("ended", [True, False])
def test_a_session_that_ends_or_has_ended_takes_no_input(api: Api, holder: Holder, ended: bool) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    if ended:
        run.end()
    else:
        api.delete(f"/sessions/{session_id}?wait=0")

    answer = api.post(f"/sessions/{session_id}/input", {"input": "x"})

    assert (answer.status_code, answer.json()["error_code"]) == (409, "SESSION_ENDED" if ended else "SESSION_ENDING")
