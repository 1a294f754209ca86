"""What a session of Claude Code does about what its program says, with everything around it recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest

from models.inputs import Kind, Mail, State
from models.lifecycle import Reason, Status
from models.requests import RequestState
from runner.programs.claude_code.driver import LAST_WORD_SECONDS, Driver
from runner.programs.claude_code.memory import Memory, query_id
from runner.programs.claude_code.starting import Plan
from streams.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.requests import NewRequest
    from runner.live import LiveSession
    from runner.plumbing import Letter
    from runner.supervision import Stop

SESSION = UUID("01a20876-96f3-7641-a7dd-835fac400188")


@dataclass
class Recorded:
    """A live session as its driver sees it."""

    id: UUID = SESSION
    is_running: bool = True
    now: float = 0.0
    lines: list[dict[str, Any]] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    printed: str = ""
    entries: list[tuple[EntryKind, dict[str, Any]]] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    told: list[tuple[int, State, str | None]] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    kept: Mapping[str, Any] = field(default_factory=dict)
    requests: list[NewRequest] = field(default_factory=list)
    settlements: list[tuple[UUID, RequestState]] = field(default_factory=list)
    fine: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.plumbing = self
        affairs = SimpleNamespace(
            keep=lambda _, state: setattr(self, "kept", state),
            asked=lambda _, new: self.requests.append(new),
            settled=lambda _, request_id, state, message=None: self.settlements.append((request_id, state)),
        )
        self.host = SimpleNamespace(affairs=affairs, clock=SimpleNamespace(now=lambda: self.now))
        self.decisions = SimpleNamespace(stirred=lambda _: None, input_ended=lambda fine: setattr(self, "fine", fine))

    def write_letter(self, letter: Letter) -> None:
        self.letters.append(letter)
        self.lines += [json.loads(line) for line in letter.body.splitlines()]

    def put_out(self, _: str, chunk: bytes) -> None:
        self.printed += chunk.decode()

    def show(self, status: Status) -> None:
        self.statuses.append(status)

    def tell(self, input_seq: int, state: State, reason: str | None = None) -> None:
        self.told.append((input_seq, state, reason))

    def exceeded(self, stop: Stop) -> None:
        self.stops.append(stop)

    def write(self, *what: Any) -> None:
        """A letter, as plumbing; an entry, as a session."""
        if len(what) == 1:
            self.write_letter(what[0])
        else:
            self.entries.append((what[0], what[1]))


@dataclass
class Session:
    """A driver and what it did."""

    live: Recorded
    driver: Driver

    def says(self, **line: Any) -> None:
        self.driver.printed("stdout", json.dumps(line).encode() + b"\n", self.live.now)

    def becomes(self, state: str) -> None:
        self.says(type="system", subtype="session_state_changed", state=state)

    def listens(self) -> None:
        answer = {
            "subtype": "success",
            "request_id": "jelmore-initialize",
            "response": {"claude_code_version": "2.1.330"},
        }
        self.says(type="control_response", response=answer)

    def delivers(self, message: UUID, *states: str) -> None:
        for state in states:
            self.says(type="command_lifecycle", command_uuid=str(message), state=state)

    def ends_turn(self, *messages: UUID, **more: Any) -> None:
        ids = [str(message) for message in messages]
        usage = {"input_tokens": 10, "output_tokens": 2}
        self.says(**{"type": "result", "subtype": "success", "user_message_uuids": ids, "usage": usage} | more)

    def asks(self, request_id: str = "r1", tool: str = "Bash", **more: Any) -> UUID:
        request = {"subtype": "can_use_tool", "tool_name": tool, "input": {"command": "touch x"}, **more}
        self.says(type="control_request", request_id=request_id, request=request)
        return self.live.requests[-1].id

    def given(self, text: str, input_seq: int = 1, **detail: Any) -> UUID:
        """An input comes and is written."""
        mail = letter(Kind.INPUT, input_seq, text.encode(), detail)
        self.live.write_letter(self.driver.letter(mail))
        self.driver.written(mail, self.live.now)
        return mail.input_id

    def decided(self, request_id: UUID, **decision: Any) -> tuple[State, str] | None:
        detail = {"request_id": str(request_id), "allow": True, "input": None, "message": None, "remember": "once"}
        return self.driver.answer(letter(Kind.ANSWER, 9, b"", detail | decision))

    def controls(self) -> list[str]:
        return [line["request"]["subtype"] for line in self.live.lines if line["type"] == "control_request"]


def letter(kind: Kind, input_seq: int, body: bytes, detail: dict[str, Any]) -> Mail:
    return Mail(SESSION, input_seq, uuid4(), kind, body, detail, "ada", None)


def begun(memory: Memory | None = None, **plan: Any) -> Session:
    live = Recorded()
    facts: dict[str, Any] = {"query": "hello", "start_seconds": 60, "silence_seconds": 100} | plan
    driver = Driver(cast("LiveSession", live), Plan(**facts), memory or Memory())
    driver.started(live.now)
    return Session(live, driver)


@pytest.fixture
def session() -> Session:
    started = begun()
    started.listens()
    return started


# The first words, and others.


def test_the_first_words_are_said_under_an_id_that_is_always_the_same() -> None:
    first, again = begun(), begun()

    messages = [each.live.lines[1] for each in (first, again)]
    assert [line["message"]["content"] for line in messages] == ["hello"] * 2
    assert {line["uuid"] for line in messages} == {str(query_id(SESSION))}
    assert first.controls() == ["initialize"]


def test_first_words_that_were_answered_are_not_said_again() -> None:
    assert begun(Memory(query="answered")).controls() == ["initialize"]
    assert len(begun(Memory(query="answered")).live.lines) == 1


def test_what_was_answered_is_known_to_whoever_comes_next(session: Session) -> None:
    session.delivers(query_id(SESSION), "queued", "started")
    session.ends_turn(query_id(SESSION), total_cost_usd=0.25)

    again = Memory.of(session.live.kept)
    assert (again.query, again.version, again.turns, again.cost_usd) == ("answered", "2.1.330", 1, 0.25)
    assert again.usage == {"input_tokens": 10, "output_tokens": 2}
    assert session.live.told == []


def test_money_is_counted_on_and_never_back() -> None:
    session = begun(Memory(query="answered", cost_usd=1.0))
    for told, kept in ((0.25, 1.0), (1.5, 1.5)):
        session.ends_turn(total_cost_usd=told)
        assert session.live.kept["cost_usd"] == kept


def test_an_input_is_answered_by_the_turn_that_names_it(session: Session) -> None:
    one, two = session.given("one", 1), session.given("two", 2)
    assert [line["uuid"] for line in session.live.lines[2:]] == [str(one), str(two)]
    for message in (one, two):
        session.delivers(message, "queued", "started")
    session.ends_turn(one, two)
    session.delivers(one, "completed")
    assert session.live.told == [(1, State.ANSWERED, None), (2, State.ANSWERED, None)]


def test_modes_are_priorities(session: Session) -> None:
    for mode in ("queue", "steer", "interrupt"):
        session.given("text", mode=mode)
    assert [line.get("priority") for line in session.live.lines[2:]] == [None, "next", "now"]


@pytest.mark.parametrize(
    ("turn", "state"),
    [
        (
            {"subtype": "error_during_execution", "is_error": True, "terminal_reason": "aborted_tools"},
            State.INTERRUPTED,
        ),
        ({"subtype": "error_during_execution", "is_error": True}, State.INTERRUPTED),
        ({"subtype": "success", "is_error": True, "terminal_reason": "completed"}, State.ANSWERED),
    ],
)
def test_an_input_whose_turn_was_cut_off_is_interrupted(session: Session, turn: dict[str, Any], state: State) -> None:
    message = session.given("x")
    session.ends_turn(message, **turn)
    assert [each[1] for each in session.live.told] == [state]


def test_an_input_that_another_process_had_begun_is_not_run_again_and_said_to_be_so(session: Session) -> None:
    message = session.given("x")
    session.delivers(message, "completed")

    assert session.live.told == [(1, State.INTERRUPTED, "worker_lost")]
    assert (EntryKind.AGENT, {"type": "interrupted", "input_id": str(message)}) in session.live.entries
    assert "interrupted" in session.live.printed


def test_after_the_end_of_the_input_one_is_no_failure(session: Session) -> None:
    written = session.driver.letter(letter(Kind.EOF, 3, b"", {}))
    assert (written.number, written.eof) == (3, True)
    assert session.live.fine == {1}


# What it does.


def test_its_states_are_statuses_and_told_once(session: Session) -> None:
    for state in ("running", "running", "requires_action", "running", "idle"):
        session.becomes(state)
    assert session.live.statuses == [Status.WAITING_INPUT, Status.ACTIVE, Status.IDLE]


def test_one_that_goes_on_with_nothing_to_answer_is_idle_as_soon_as_it_listens() -> None:
    session = begun(Memory(query="answered"))
    assert session.live.statuses == []
    session.listens()
    assert session.live.statuses == [Status.IDLE]


def test_stderr_is_for_people(session: Session) -> None:
    session.driver.printed("stderr", b"oh\n", 1.0)
    assert session.live.printed == "oh\n"


def test_what_never_listens_is_given_up() -> None:
    session = begun()
    session.driver.tick(60.0)
    assert session.live.stops == []
    session.driver.tick(60.1)
    assert [stop.reason for stop in session.live.stops] == [Reason.UNRESPONSIVE]


def test_silence_at_work_is_interrupted_and_then_given_up(session: Session) -> None:
    session.becomes("running")
    session.driver.tick(100.0)
    assert session.controls() == ["initialize"]
    for now in (100.5, 101.0):
        session.driver.tick(now)
    assert session.controls() == ["initialize", "interrupt"]
    assert session.live.stops == []
    session.driver.tick(100.1 + LAST_WORD_SECONDS)
    assert [stop.reason for stop in session.live.stops] == [Reason.UNRESPONSIVE]


def test_silence_when_it_waits_is_its_right(session: Session) -> None:
    for state in ("requires_action", "idle"):
        session.becomes(state)
        session.driver.tick(10_000.0)
    assert session.controls() == ["initialize"]


@pytest.mark.parametrize(("state", "said"), [("idle", ["end_session"]), ("running", ["interrupt"])])
def test_it_is_asked_to_leave(session: Session, state: str, said: list[str]) -> None:
    session.becomes(state)
    session.driver.leave(1.0)
    assert session.controls()[1:] == said
    session.becomes("running")
    session.becomes("idle")
    assert session.controls()[-1] == "end_session"


# What it wants decided.


def test_a_question_is_told_and_the_answer_brought(session: Session) -> None:
    request_id = session.asks(description="make a file")

    fields = session.live.entries[0][1]
    assert session.live.entries[0][0] is EntryKind.REQUEST
    assert fields == {
        "request_id": str(request_id),
        "kind": "permission",
        "tool": "Bash",
        "input": {"command": "touch x"},
        "description": "make a file",
    }
    assert session.decided(request_id, input={"command": "touch y"}) is None
    answer = session.live.lines[-1]["response"]
    assert answer["request_id"] == "r1"
    assert answer["response"] == {"behavior": "allow", "updatedInput": {"command": "touch y"}}
    assert session.live.letters[-1].number == 9
    assert session.live.entries[-1][1] == {"request_id": str(request_id), "state": "allowed", "by": "ada"}
    assert session.decided(request_id) == (State.FAILED, "withdrawn")


def test_a_denial_says_why(session: Session) -> None:
    session.decided(session.asks(), allow=False, message="not today")
    assert session.live.lines[-1]["response"]["response"] == {"behavior": "deny", "message": "not today"}


def test_what_is_to_be_remembered_is_kept_in_the_process_alone(session: Session) -> None:
    suggestion = {"type": "addRules", "behavior": "allow", "destination": "localSettings", "rules": []}
    session.decided(session.asks(permission_suggestions=[suggestion]), remember="session")
    answer = session.live.lines[-1]["response"]["response"]
    assert answer["updatedPermissions"] == [suggestion | {"destination": "session"}]


def test_a_request_that_is_withdrawn_takes_no_answer(session: Session) -> None:
    request_id = session.asks()
    session.says(type="control_cancel_request", request_id="r1")
    assert session.live.settlements == [(request_id, RequestState.WITHDRAWN)]
    assert session.live.entries[-1][1] == {"request_id": str(request_id), "state": "withdrawn"}
    assert session.decided(request_id) == (State.FAILED, "withdrawn")


def test_what_nobody_decides_is_denied_in_time() -> None:
    session = begun(request_timeout_seconds=30)
    session.listens()
    request_id = session.asks()
    session.driver.tick(29.0)
    assert session.live.settlements == []
    session.driver.tick(30.0)
    assert session.live.settlements == [(request_id, RequestState.DENIED)]
    assert session.live.lines[-1]["response"]["response"]["behavior"] == "deny"
