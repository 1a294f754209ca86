"""What Claude Code says, understood however it is cut into pieces and whatever it says that nobody knows."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.programs.claude_code import messages
from runner.programs.claude_code.dialogue import INITIALIZE, Dialogue
from runner.programs.claude_code.lines import Lines, Unreadable
from runner.programs.claude_code.said import (
    Asked,
    Became,
    Conversation,
    Delivered,
    Doing,
    Printed,
    Ready,
    Told,
    TurnEnded,
    Withdrawn,
)

MESSAGE_ID = UUID("0198c0de-0000-7000-8000-000000000001")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


def heard(*lines: bytes) -> list[Any]:
    return [said for said in Dialogue().take(b"".join(lines)) if not isinstance(said, Told)]


def printed(*lines: bytes) -> str:
    return "".join(said.text for said in heard(*lines) if isinstance(said, Printed))


def event(**members: Any) -> bytes:
    return line(type="stream_event", event=members, parent_tool_use_id=None)


def tool_use(name: str, tool_id: str = "t1", **given: Any) -> bytes:
    block = {"type": "tool_use", "id": tool_id, "name": name, "input": given}
    return line(type="assistant", message={"id": "m", "content": [block]}, parent_tool_use_id=None)


STREAMED = (
    event(type="message_start", message={"id": "m1", "content": []}),
    event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Hel"}),
    event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "lo ü"}),
    event(type="content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "never shown"}),
    event(type="content_block_stop", index=0),
    line(
        type="assistant",
        message={"id": "m1", "content": [{"type": "text", "text": "Hello ü"}]},
        parent_tool_use_id=None,
    ),
    event(type="message_stop"),
)


def test_text_comes_as_it_is_streamed_and_not_again_when_it_is_finished() -> None:
    assert [said.text for said in heard(*STREAMED)] == ["Hel", "lo ü", "\n"]


def test_text_that_was_not_streamed_comes_when_it_is_finished() -> None:
    assert printed(STREAMED[6]) == "Hello ü\n"


def test_a_tool_is_a_line_for_its_call_and_one_for_its_result() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "one\ntwo\nthree"}]}
    failed = {"type": "tool_result", "tool_use_id": "t2", "content": "no such file", "is_error": True}
    said = printed(
        *STREAMED[:4],
        tool_use("Bash", command="ls -la\nrm x"),
        line(type="user", message={"role": "user", "content": [result]}),
        tool_use("Read", "t2", file_path="/etc/passwd", limit=3),
        line(type="user", message={"role": "user", "content": [failed]}),
    )

    assert said.splitlines() == [
        "Hello ü",
        "[Bash] ls -la (and 1 lines)",
        "[Bash] → one (and 2 lines)",
        "[Read] /etc/passwd",
        "[Read] failed no such file",
    ]


def test_what_it_does_is_told_by_itself() -> None:
    states = [line(type="system", subtype="session_state_changed", state=state) for state in Doing]
    assert heard(*states) == [Became(state) for state in Doing]
    assert heard(line(type="system", subtype="session_state_changed", state="dancing")) == []


def test_one_that_does_not_say_what_it_does_runs_for_a_turn() -> None:
    found = heard(
        line(type="system", subtype="init", session_id="c", model="m"), line(type="result", subtype="success")
    )

    assert found[:2] == [Conversation("c", "m"), Became(Doing.RUNNING)]
    assert found[-1] == Became(Doing.IDLE)


def test_it_listens_when_it_has_answered() -> None:
    answer = {"subtype": "success", "request_id": INITIALIZE, "response": {"claude_code_version": "2.1.330"}}
    another = {"subtype": "success", "request_id": "other", "response": {}}
    assert heard(line(type="control_response", response=another), line(type="control_response", response=answer)) == [
        Ready("2.1.330")
    ]


def test_a_permission_is_asked_for_and_withdrawn_once() -> None:
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "touch x"}, "description": "Make x"}
    asked, shown, withdrawn = heard(
        line(request=request, type="control_request", request_id="r1"),
        line(type="control_cancel_request", request_id="r1"),
        line(type="control_cancel_request", request_id="r1"),
        line(type="control_cancel_request", request_id="never asked"),
    )

    assert asked == Asked("r1", "permission", "Bash", {"command": "touch x"}, "Make x")
    assert shown == Printed("[permission] Bash: Make x\n")
    assert withdrawn == Withdrawn("r1")


@pytest.mark.parametrize(
    ("tool", "kind", "given", "shown"),
    [
        ("AskUserQuestion", "question", {"questions": [{"question": "Which colour?"}]}, "[question] Which colour?\n"),
        ("ExitPlanMode", "plan", {"plan": "# All of it"}, "[plan] waits for approval\n"),
    ],
)
def test_questions_and_plans_are_told_apart(tool: str, kind: str, given: dict[str, Any], shown: str) -> None:
    request = {"subtype": "can_use_tool", "tool_name": tool, "input": given}
    asked, printed_ = heard(line(type="control_request", request_id="r", request=request))

    assert (asked.kind, asked.input, printed_) == (kind, given, Printed(shown))


def test_how_far_a_message_has_come() -> None:
    assert heard(line(type="command_lifecycle", command_uuid=str(MESSAGE_ID), state="started")) == [
        Delivered(str(MESSAGE_ID), "started")
    ]


def test_the_end_of_a_turn_says_what_it_cost_and_whose_it_was() -> None:
    said = heard(
        line(type="system", subtype="session_state_changed", state="running"),
        line(
            type="result",
            subtype="success",
            is_error=True,
            result="Invalid API key",
            user_message_uuids=["a", "b"],
            usage={"output_tokens": 3},
            total_cost_usd=0.25,
            num_turns=2,
        ),
    )

    assert said[1:] == [
        Printed("[success] Invalid API key\n"),
        TurnEnded("success", True, "Invalid API key", ["a", "b"], {"output_tokens": 3}, 0.25, 2),
    ]


def test_programs_are_told_what_was_said_and_done() -> None:
    told = [
        said.fields
        for said in Dialogue().take(b"".join((STREAMED[6], tool_use("Bash", command="ls"))))
        if isinstance(said, Told)
    ]

    assert told[0] == {"type": "assistant", "text": "Hello ü"}
    assert told[1] == {"type": "assistant", "tools": [{"id": "t1", "name": "Bash", "input": {"command": "ls"}}]}


def test_a_model_that_does_not_answer_is_told_of() -> None:
    retry = line(
        type="system",
        subtype="api_retry",
        attempt=2,
        max_retries=4,
        retry_delay_ms=1900,
        error="overloaded",
        error_status=529,
    )
    assert printed(retry) == "[the model does not answer: overloaded; try 2 of 4 in 2 s]\n"


@given(data=st.data())
def test_however_it_is_cut_the_same_is_understood(data: st.DataObject) -> None:
    whole = b"".join(STREAMED) + line(type="control_cancel_request", request_id="x") + b"\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    dialogue = Dialogue()
    found: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += dialogue.take(whole[start:end])

    assert found == list(Dialogue().take(whole))


@given(
    members=st.dictionaries(
        st.sampled_from(["type", "subtype", "message", "event", "request", "response", "state", "x"]), JSON
    )
)
def test_whatever_it_says_nothing_breaks(members: dict[str, Any]) -> None:
    for kind in ("assistant", "user", "result", "system", "stream_event", "control_request", "control_response", None):
        list(Dialogue().take(line(**{**members, **({} if kind is None else {"type": kind})})))


@given(noise=st.binary(max_size=200))
def test_what_is_no_json_is_shown_and_the_next_line_understood(noise: bytes) -> None:
    said = list(
        Dialogue().take(
            noise.replace(b"\n", b" ") + b"\n" + line(type="system", subtype="session_state_changed", state="idle")
        )
    )

    assert said[-1] == Became(Doing.IDLE)


def test_a_line_of_a_megabyte_is_read_and_one_without_an_end_is_not_kept() -> None:
    long = line(type="x", text="x" * 1024 * 1024)
    pieces = [long[start : start + 65536] for start in range(0, len(long), 65536)]
    lines = Lines(most_bytes=2 * 1024 * 1024)
    assert [found["type"] for piece in pieces for found in lines.take(piece) if isinstance(found, dict)] == ["x"]
    found = [each for _ in range(40) for each in lines.take(b"y" * 65536)] + list(lines.take(b"\n" + line(type="z")))
    assert isinstance(found[0], Unreadable)
    assert found[1:] == [{"type": "z"}]


@given(text=st.text())
def test_whatever_is_said_to_it_is_one_line_that_it_takes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    said = messages.user(text, MESSAGE_ID)
    assert said.count(b"\n") == 1
    assert json.loads(said) == {"type": "user", "uuid": str(MESSAGE_ID), "message": {"role": "user", "content": text}}


def test_messages_are_queued_steer_or_interrupt() -> None:
    assert [
        json.loads(messages.user("x", MESSAGE_ID, mode)).get("priority") for mode in ("queue", "steer", "interrupt")
    ] == [
        None,
        "next",
        "now",
    ]


def test_decisions_are_answers_to_what_was_asked() -> None:
    allowed = json.loads(
        messages.allow(
            "r", {"command": "ls"}, messages.for_session([{"type": "addRules", "destination": "localSettings"}, 1])
        )
    )
    assert allowed["response"] == {
        "subtype": "success",
        "request_id": "r",
        "response": {
            "behavior": "allow",
            "updatedInput": {"command": "ls"},
            "updatedPermissions": [{"type": "addRules", "destination": "session"}],
        },
    }
    assert json.loads(messages.deny("r", "no"))["response"]["response"] == {"behavior": "deny", "message": "no"}
