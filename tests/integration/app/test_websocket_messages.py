"""What is said over a WebSocket and what is answered: each message by its type, errors by their codes, the socket stays."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import websocket
from sqlalchemy import select

from models.lifecycle import Reason
from models.tables import AuditRow, Input, Session
from tests.checks import eventually
from tests.integration.app.talking import BINARY, TEXT, talking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api
    from tests.integration.app.talking import Talk

KEYS = {
    "root-key": {"permissions": ["admin"], "name": "root"},
    "ada-key": {"permissions": ["read", "write"], "name": "ada"},
    "ada-reads-key": {"permissions": ["read"], "name": "ada-reads", "owner": "ada"},
    "ada-writes-key": {"permissions": ["write"], "name": "ada-writes", "owner": "ada"},
    "bob-key": {"permissions": ["read", "write"], "name": "bob"},
}


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    return {**variables, "API_KEYS": json.dumps(KEYS)}


@pytest.fixture
def session_id(gevent: Api) -> UUID:
    return gevent.create(terminal={"rows": 24, "cols": 80})


@pytest.fixture
def run(session_id: UUID, holder: Holder) -> Run:
    return holder.run(session_id)


@pytest.fixture
def talk(gevent: Api, session_id: UUID) -> Iterator[Talk]:
    with talking(gevent, session_id) as opened:
        assert opened.hear()["event"] == "session_info"
        yield opened


def rows(web: Web, session_id: UUID) -> list[Input]:
    with web.database.transaction() as tx:
        return list(tx.scalars(select(Input).where(Input.session_id == session_id).order_by(Input.input_seq)))


def test_a_ping_is_answered(talk: Talk) -> None:
    talk.say(type="ping")
    assert set(answer := talk.hear()) == {"event", "timestamp"}
    assert answer["event"] == "pong"
    assert talk.ask(type="ping", id="mine")["id"] == "mine"


def test_the_status_is_told(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    with talking(gevent, session_id) as talk:
        assert talk.ask(type="get_status") | {"id": "", "timestamp": ""} == {
            "event": "status_response",
            "status": "initializing",
            "output_size": 0,
            "id": "",
            "timestamp": "",
        }
        holder.run(session_id)
        assert talk.ask(type="get_status")["status"] == "active"


@pytest.mark.parametrize(
    ("members", "body"),
    [
        ({"content": "date"}, b"date\n"),
        ({"content": "date\n"}, b"date\n"),
        ({"content": "date", "newline": False}, b"date"),
        ({"content": "\u001b[A", "raw": True}, b"\x1b[A"),
        ({"content": ""}, b"\n"),
        ({"content": "\u00e9\U0001f600"}, "\u00e9\U0001f600\n".encode()),
    ],
    ids=str,
)
def test_input_is_what_post_input_makes_of_it(
    gevent: Api, holder: Holder, web: Web, members: dict[str, Any], body: bytes
) -> None:
    session_id = gevent.create()
    holder.run(session_id)
    with talking(gevent, session_id) as talk:
        answer = talk.ask(type="input", **members, id="first")
    assert answer["event"] == "input_received"
    (row,) = rows(web, session_id)
    assert (str(row.id), row.input_seq) == (answer["input_id"], answer["input_seq"])
    assert (bytes(row.body), row.actor) == (body, "ada")
    assert holder.hears() == str(session_id)


def test_input_sent_again_with_its_id_is_the_same_input_on_any_socket(gevent: Api, holder: Holder, web: Web) -> None:
    session_id, other = gevent.create(), gevent.create()
    holder.run(session_id)
    with talking(gevent, session_id) as talk:
        first = talk.ask(type="input", content="once", id="1")
        assert talk.ask(type="input", content="once", id="1")["input_id"] == first["input_id"]
    with talking(gevent, session_id) as talk:
        assert talk.ask(type="input", content="once", id="1")["input_id"] == first["input_id"]
        assert talk.ask(type="input", content="else", id="1")["error_code"] == "IDEMPOTENCY_KEY_REUSED"
        assert talk.ask(type="input", content="once", id="2")["input_seq"] == 2
    with talking(gevent, other) as talk:
        assert talk.ask(type="input", content="of another session", id="1")["input_seq"] == 1
    assert [bytes(row.body) for row in rows(web, session_id)] == [b"once\n", b"once\n"]


def test_at_a_terminal_a_line_ends_with_return_and_is_not_too_long(talk: Talk, run: Run, web: Web) -> None:
    assert talk.ask(type="input", content="date")["event"] == "input_received"
    assert talk.ask(type="input", content="x" * 5000)["error_code"] == "LINE_TOO_LONG"
    assert [bytes(row.body) for row in rows(web, run.session_id)] == [b"date\r"]


def test_a_thousand_inputs_sent_without_waiting_keep_their_order(talk: Talk, run: Run, web: Web) -> None:
    for number in range(700):
        talk.say(type="input", content=str(number), id=str(number))
    answers: list[dict[str, Any]] = []
    while len(answers) < 700:
        if (heard := talk.hear())["event"] != "status":
            answers.append(heard)
    assert {answer["event"] for answer in answers} == {"input_received"}
    assert [answer["id"] for answer in answers] == [str(number) for number in range(700)]
    assert [answer["input_seq"] for answer in answers] == list(range(1, 701))
    assert [bytes(row.body) for row in rows(web, run.session_id)] == [f"{number}\r".encode() for number in range(700)]


def all_typed(web: Web, session_id: UUID) -> bool:
    assert [bytes(row.body) for row in rows(web, session_id)] == [f"{number}\r".encode() for number in range(20)]
    return True


def test_input_sent_right_before_the_close_arrives(gevent: Api, run: Run, web: Web) -> None:
    with talking(gevent, run.session_id) as talk:
        for number in range(20):
            talk.say(type="input", content=str(number))
        talk.connection.send_close(1000)
        talk.rest()  # who closes with something unread takes back what is still under way
    eventually(lambda: all_typed(web, run.session_id))


def test_input_sent_right_before_the_connection_breaks_arrives(gevent: Api, run: Run, web: Web) -> None:
    with talking(gevent, run.session_id) as talk:
        for number in range(20):
            talk.say(type="input", content=str(number))
        assert talk.connection.sock is not None
        talk.connection.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            talk.rest()
    eventually(lambda: all_typed(web, run.session_id))


@pytest.mark.parametrize(
    ("members", "kind", "detail"),
    [
        (
            {"type": "resize", "rows": 50, "cols": 132},
            "resize",
            {"rows": 50, "cols": 132, "was": {"rows": 24, "cols": 80}},
        ),
        ({"type": "signal", "signal": "SIGTERM"}, "signal", {"number": 15, "name": "TERM"}),
        ({"type": "interrupt"}, "interrupt", {}),
        ({"type": "eof"}, "eof", {}),
    ],
    ids=str,
)
def test_what_is_asked_is_answered_when_it_is_done(
    talk: Talk, run: Run, holder: Holder, members: dict[str, Any], kind: str, detail: dict[str, Any]
) -> None:
    talk.say(**members, id="mine")
    assert holder.hears() == str(run.session_id)
    (letter,) = run.fetch()
    assert (letter.kind, letter.detail) == (kind, detail)
    assert talk.ask(type="ping")["event"] == "pong"  # nobody waits behind it

    run.deliver(letter)

    (answer,) = [heard for heard in talk.until("command_result") if heard["event"] == "command_result"]
    assert (answer["id"], answer["command"], answer["state"]) == ("mine", kind, "written")
    assert (answer["input_id"], answer["session_id"]) == (str(letter.input_id), str(run.session_id))


def test_what_ends_the_session_is_answered_behind_the_end_it_brought(talk: Talk, run: Run, holder: Holder) -> None:
    talk.say(type="signal", signal="KILL", id="mine")
    assert holder.hears() == str(run.session_id)
    run.fetch()
    run.end(Reason.SIGNAL, exit_code=None)

    heard = talk.rest()
    names = [message["event"] for message in heard]
    assert {"terminated", "command_result"} <= set(names)
    assert [message["id"] for message in heard if message["event"] == "command_result"] == ["mine"]
    assert talk.code == 1000


def test_what_is_not_done_in_time_is_answered_all_the_same(talk: Talk, run: Run) -> None:
    answer = talk.ask(type="interrupt")

    assert (answer["event"], answer["state"]) == ("command_result", "accepted")
    assert run.fetch()


def test_what_cannot_be_is_said(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    with talking(gevent, session_id) as talk:
        assert talk.ask(type="interrupt")["error_code"] == "NOT_STARTED"
        assert talk.ask(type="resize", rows=1, cols=1)["error_code"] == "NO_TERMINAL"
        holder.run(session_id)
        assert talk.ask(type="resize", rows=1, cols=1)["error_code"] == "NO_TERMINAL"
        assert talk.ask(type="terminate")["event"] == "command_result"
        assert talk.ask(type="input", content="x")["error_code"] == "SESSION_ENDING"


def test_terminating_is_answered_and_then_the_end_comes(gevent: Api, holder: Holder, web: Web) -> None:
    session_id = gevent.create()
    run = holder.run(session_id)
    with talking(gevent, session_id) as talk:
        answer = talk.ask(type="terminate", reason="enough")
        assert (answer["command"], answer["message"]) == ("terminate", "Session termination requested")
        assert answer["reason"] == "enough"
        run.end()
        assert talk.rest()[-1]["event"] == "terminated"
        assert talk.code == 1000
    with web.database.transaction() as tx:
        assert tx.get_one(Session, session_id).reason_detail == "enough"


def test_a_session_nobody_holds_ends_at_once(gevent: Api) -> None:
    session_id = gevent.create()
    with talking(gevent, session_id) as talk:
        talk.say(type="terminate")
        heard = talk.rest()
        assert talk.code == 1000
    events = [message["event"] for message in heard]
    assert events[-1] == "terminated"
    assert {"session_info", "status"} <= set(events)


# What is not understood.

FAULTY: list[tuple[str, str]] = [
    ("", "MALFORMED_BODY"),
    ("{", "MALFORMED_BODY"),
    ("nonsense", "MALFORMED_BODY"),
    ('{"type": "ping", "x": NaN}', "MALFORMED_BODY"),
    ("[" * 30_000, "MALFORMED_BODY"),
    ('{"type": "ping", "x": ' + "9" * 5000 + "}", "MALFORMED_BODY"),
    ("null", "VALIDATION_FAILED"),
    ("[]", "VALIDATION_FAILED"),
    ('"ping"', "VALIDATION_FAILED"),
    ("{}", "VALIDATION_FAILED"),
    ('{"type": null}', "VALIDATION_FAILED"),
    ('{"type": 7}', "VALIDATION_FAILED"),
    ('{"type": ["ping"]}', "VALIDATION_FAILED"),
    ('{"type": "nonsense"}', "VALIDATION_FAILED"),
    ('{"type": "PING"}', "VALIDATION_FAILED"),
    ('{"type": "ping", "more": 1}', "VALIDATION_FAILED"),
    ('{"type": "ping", "id": 7}', "VALIDATION_FAILED"),
    ('{"type": "ping", "id": ""}', "VALIDATION_FAILED"),
    ('{"type": "ping", "id": "' + "x" * 129 + '"}', "VALIDATION_FAILED"),
    ('{"type": "input"}', "VALIDATION_FAILED"),
    ('{"type": "input", "content": 7}', "VALIDATION_FAILED"),
    ('{"type": "input", "content": "\\u0000"}', "VALIDATION_FAILED"),
    ('{"type": "input", "content": "\\ud800"}', "VALIDATION_FAILED"),
    ('{"type": "input", "content": "x", "newline": "yes"}', "VALIDATION_FAILED"),
    ('{"type": "resize", "rows": 0, "cols": 1}', "VALIDATION_FAILED"),
    ('{"type": "signal", "signal": "NONSENSE"}', "VALIDATION_FAILED"),
    ('{"type": "subscribe", "events": "output"}', "VALIDATION_FAILED"),
    ('{"type": "subscribe", "events": [7]}', "VALIDATION_FAILED"),
    ('{"type": "subscribe", "after": -1}', "VALIDATION_FAILED"),
    ('{"type": "subscribe", "after": 99}', "INVALID_POSITION"),
    ('{"type": "terminate", "reason": ""}', "VALIDATION_FAILED"),
]


@pytest.mark.parametrize(("text", "code"), FAULTY, ids=[text[:40] for text, _ in FAULTY])
def test_what_is_not_understood_is_answered_and_the_socket_stays(talk: Talk, text: str, code: str) -> None:
    talk.connection.send(text)
    answer = talk.hear()
    assert (answer["event"], answer["error_code"]) == ("error", code)
    assert answer["detail"]
    assert code != "VALIDATION_FAILED" or answer["errors"]
    assert talk.ask(type="ping")["event"] == "pong"


def test_binary_messages_are_not_understood(talk: Talk) -> None:
    talk.connection.send(b'{"type": "ping"}', opcode=BINARY)
    assert talk.hear()["error_code"] == "MALFORMED_BODY"
    talk.connection.send('{"type": "ping"}', opcode=TEXT)
    assert talk.hear()["event"] == "pong"


def test_an_error_names_the_message_it_answers(talk: Talk) -> None:
    assert talk.ask(type="nonsense", id="this")["id"] == "this"
    assert talk.ask(type="input", id="that")["errors"][0]["loc"] == ["content"]


# What keys may.


def test_who_may_only_read_is_shown_everything_and_changes_nothing(gevent: Api, run: Run, web: Web) -> None:
    run.write(b"hello")
    with talking(gevent.as_("ada-reads-key"), run.session_id) as talk:
        assert talk.hear()["event"] == "session_info"
        assert talk.until("output")[-1]["content"] == "hello"
        assert talk.ask(type="get_status")["event"] == "status_response"
        for members in (
            {"type": "input", "content": "x"},
            {"type": "resize", "rows": 1, "cols": 1},
            {"type": "signal", "signal": "INT"},
            {"type": "interrupt"},
            {"type": "eof"},
            {"type": "terminate"},
        ):
            assert talk.ask(**members)["error_code"] == "INSUFFICIENT_PERMISSIONS"
        assert talk.ask(type="ping")["event"] == "pong"
    assert rows(web, run.session_id) == []

    def noted() -> bool:
        of_it = (AuditRow.target == str(run.session_id), AuditRow.outcome == "INSUFFICIENT_PERMISSIONS")
        with web.database.transaction() as tx:
            actions = tx.scalars(select(AuditRow.action).where(*of_it).order_by(AuditRow.id)).all()
        verbs = ("input", "resize", "signal", "interrupt", "eof", "terminate")
        return list(actions) == [f"session.{verb}" for verb in verbs]

    eventually(noted)


def test_who_may_only_write_is_sent_answers_and_nothing_else(gevent: Api, run: Run, web: Web) -> None:
    run.write(b"secret")
    with talking(gevent.as_("ada-writes-key"), run.session_id) as talk:
        assert talk.ask(type="input", content="x")["event"] == "input_received"
        assert talk.ask(type="get_status")["error_code"] == "INSUFFICIENT_PERMISSIONS"
        assert talk.ask(type="subscribe")["error_code"] == "INSUFFICIENT_PERMISSIONS"
        run.write(b"more")
        assert talk.ask(type="ping")["event"] == "pong"
        run.end()
        assert talk.rest() == []
        assert talk.code == 1000
    assert len(rows(web, run.session_id)) == 1


# Subscribing.


def test_only_what_is_subscribed_to_comes_and_always_the_end(gevent: Api, run: Run) -> None:
    with talking(gevent, run.session_id) as talk:
        talk.hear()
        answer = talk.ask(type="subscribe", events=["status", "nonsense", "status"])
        assert answer["events"] == ["status"]
        run.write(b"unseen")
        run.end()
        assert [message["event"] for message in talk.rest()] == ["status", "terminated"]


def test_events_in_the_address_are_a_first_subscription(gevent: Api, run: Run) -> None:
    run.write(b"unseen")
    run.tell("idle")
    with talking(gevent, run.session_id, "?events=status") as talk:
        assert talk.until("status")[-1]["status"] == "idle"  # what is behind it is turned to
        assert talk.ask(type="subscribe")["events"][:2] == ["output", "status"]
        run.write(b"seen")
        assert talk.hear()["content"] == "seen"


def test_a_subscription_may_begin_elsewhere(gevent: Api, run: Run) -> None:
    for number in range(5):
        run.write(str(number).encode())
    with talking(gevent, run.session_id) as talk:
        talk.hear()
        assert [talk.hear()["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        assert talk.ask(type="subscribe", after=2)["event"] == "subscribed"
        assert [talk.hear()["seq"] for _ in range(3)] == [3, 4, 5]
        assert talk.ask(type="subscribe", after=0, events=["output"])["events"] == ["output"]
        assert [talk.hear()["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]


def test_what_follows_the_answer_is_as_it_was_asked_for(gevent: Api, run: Run) -> None:
    """However much is under way while it is asked."""
    with talking(gevent, run.session_id) as talk:
        talk.hear()
        for turn in range(20):
            wanted = "output" if turn % 2 else "status"
            talk.say(type="subscribe", events=[wanted], after=0, id=str(turn))
            run.write(b"x")
        asked: list[str] = []
        current = None
        while len(asked) < 20:
            heard = talk.hear()
            if heard["event"] == "subscribed":
                asked.append(heard["id"])
                (current,) = heard["events"]
            elif current is not None:
                assert heard["event"] == current
        assert asked == [str(turn) for turn in range(20)]
        assert [talk.hear()["seq"] for _ in range(20)] == list(range(1, 21))
