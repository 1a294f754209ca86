"""POST input: durable, in order, and the holder told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from models.inputs import State
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


# At a terminal.


def test_a_line_typed_at_a_terminal_ends_as_enter_ends_it(api: Api, web: Web) -> None:
    session_id = api.create(terminal={"rows": 24, "cols": 80})
    bodies: list[dict[str, Any]] = [{"input": text} for text in ("a", "b\n", "c\r", "")]
    for body in [*bodies, {"input": "d", "newline": False}, {"input": "e", "raw": True}]:
        answer = api.post(f"/sessions/{session_id}/input", body)
        assert (answer.status_code, answer.json()["input_length"]) == (200, len(body["input"]))

    assert [row.body for row in rows(web, session_id)] == [b"a\r", b"b\n", b"c\r", b"\r", b"d", b"e"]


@pytest.mark.parametrize("text", ["x" * 4096, "a\n" + "ä" * 2048 + "\nb", "a\r" + "x" * 4096])
def test_a_line_that_a_terminal_would_cut_is_refused(api: Api, web: Web, text: str) -> None:
    at_terminal, on_pipes = api.create(terminal={"rows": 24, "cols": 80}), api.create()
    answer = api.post(f"/sessions/{at_terminal}/input", {"input": text})

    assert (answer.status_code, answer.json()["error_code"]) == (422, "LINE_TOO_LONG")
    assert "raw" in answer.json()["detail"]
    assert rows(web, at_terminal) == []
    assert api.post(f"/sessions/{at_terminal}/input", {"input": text, "raw": True}).status_code == 200
    assert api.post(f"/sessions/{on_pipes}/input", {"input": text}).status_code == 200


@pytest.mark.parametrize("text", ["x" * 4095, "\r\n".join(["x" * 4095] * 10)])
def test_the_longest_lines_are_taken(api: Api, text: str) -> None:
    session_id = api.create(terminal={"rows": 24, "cols": 80})

    assert api.post(f"/sessions/{session_id}/input", {"input": text}).status_code == 200


# The rows.


def test_rows_are_listed_with_how_far_they_have_come_and_without_their_text(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    for body in ({"input": "s3cret", "metadata": {"a": 1}}, {"input": "ü", "raw": True}, {"input": "late"}):
        api.post(f"/sessions/{session_id}/input", body)
    first, second, _ = run.fetch()
    run.write(b"abc")
    run.deliver(first)
    run.deliver(second, State.FAILED, "stdin_closed")
    api.delete(f"/sessions/{session_id}?wait=0&reason=enough")

    answer = api.get(f"/sessions/{session_id}/inputs")
    assert "s3cret" not in answer.text
    listed = answer.json()
    assert set(listed[0]) == {
        *("input_id", "input_seq", "kind", "state", "reason", "bytes", "detail", "metadata", "output_offset", "actor"),
        *("created_at", "written_at"),
    }
    told = [tuple(row[name] for name in ("input_seq", "kind", "state", "reason", "bytes")) for row in listed]
    assert told == [
        (1, "input", "written", None, 7),
        (2, "input", "failed", "stdin_closed", 2),
        (3, "input", "writing", None, 5),
        (4, "stop", "accepted", None, 0),
    ]
    assert (listed[0]["output_offset"], listed[0]["metadata"], listed[0]["actor"]) == (3, {"a": 1}, "ada")
    assert [row["written_at"] is None for row in listed] == [False, True, True, True]
    assert listed[3]["detail"] == {"reason": "enough"}


def test_rows_are_listed_in_pages(api: Api) -> None:
    session_id = api.create()
    for _ in range(5):
        api.post(f"/sessions/{session_id}/input", {"input": "x"})

    def seqs(**page: int) -> list[int]:
        return [row["input_seq"] for row in api.get(f"/sessions/{session_id}/inputs", params=page).json()]

    assert seqs() == [1, 2, 3, 4, 5]
    assert seqs(limit=2) == [1, 2]
    assert seqs(after=2, limit=2) == [3, 4]
    assert seqs(after=5) == []
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after": -1}, {"after": "x"}):
        assert api.get(f"/sessions/{session_id}/inputs", params=wrong).status_code == 422
    assert api.as_("bob-key").get(f"/sessions/{session_id}/inputs").status_code == 404
