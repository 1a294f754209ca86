"""The real Claude Code, and its stand-in, spoken to as the service speaks to it, with a model that does as it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from runner.programs.claude_code import messages
from runner.programs.claude_code.invocation import Beginning, transcript
from runner.programs.claude_code.said import Asked, Became, Delivered, Doing, Printed, Told, TurnEnded, Withdrawn
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.agents import Agent
    from tests.programs.messages_api import MessagesApi

    Make = Callable[..., Agent]


def test_text_comes_as_it_is_said_and_the_next_turn_remembers(agent: Make, messages_api: MessagesApi) -> None:
    claude = agent()

    first = claude.turn("the word is zebra\n@slow 4 0.1")
    second = claude.turn("@recall")

    assert (first.is_error, first.text) == (False, "word1 word2 word3 word4 ")
    assert [each.text for each in claude.said if isinstance(each, Printed)][:4] == ["word1 ", "word2 ", "word3 ", "word4 "]
    assert "zebra" in (second.text or "")
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert 0 < first.cost_usd < second.cost_usd
    assert claude.leave() == 0
    assert [each.doing for each in claude.said if isinstance(each, Became)] == [Doing.RUNNING, Doing.IDLE] * 2


@pytest.mark.parametrize("answer", ["allow", "change", "deny"])
def test_a_tool_does_what_it_was_allowed(agent: Make, answer: str) -> None:
    claude = agent()
    claude.say("@bash touch asked && echo from-the-tool")
    asked = claude.asked()
    assert (asked.kind, asked.tool) == ("permission", "Bash")
    assert asked.input["command"] == "touch asked && echo from-the-tool"
    assert [each.doing for each in claude.said if isinstance(each, Became)][-1] is Doing.REQUIRES_ACTION

    changed = {"command": "touch changed && echo from-the-change"}
    claude.tell(
        {
            "allow": messages.allow(asked.request_id),
            "change": messages.allow(asked.request_id, changed),
            "deny": messages.deny(asked.request_id, "rather not today"),
        }[answer]
    )
    ended = claude.over(0)

    assert {each.name for each in claude.workspace.iterdir()} == {
        "allow": {"asked"},
        "change": {"changed"},
        "deny": set(),
    }[answer]
    expected = {"allow": "from-the-tool", "change": "from-the-change", "deny": "rather not today"}[answer]
    assert expected in (ended.text or "")


def test_a_question_is_answered(agent: Make) -> None:
    claude = agent()
    options = [{"label": "Blue", "description": "b"}, {"label": "Red", "description": "r"}]
    question = {"question": "Which colour?", "header": "Colour", "multiSelect": False, "options": options}
    claude.say(f"@tool AskUserQuestion {json.dumps({'questions': [question]})}")
    asked = claude.asked()
    assert asked.kind == "question"

    claude.tell(messages.allow(asked.request_id, {**asked.input, "answers": {"Which colour?": "Blue"}}))

    assert "Blue" in (claude.over(0).text or "")


def test_an_interrupt_ends_text_a_question_and_a_tool(agent: Make) -> None:
    claude = agent()
    for beginning, sign in (
        ("@slow 500 0.1", lambda: claude.hear(Printed, lambda printed: "word3" in printed.text)),
        ("@bash touch never", claude.asked),
        ("@hang", lambda: claude.hear(Became, lambda became: became.doing is Doing.RUNNING, since=before)),
    ):
        before = len(claude.said)
        claude.say(beginning)
        sign()
        claude.interrupt()
        assert claude.over(before).is_error, beginning
    claude.hear(Withdrawn)
    assert not (claude.workspace / "never").exists()

    before = len(claude.said)
    claude.say("@bash touch begun && tail -f /dev/null")
    claude.tell(messages.allow(claude.asked(before).request_id))
    eventually((claude.workspace / "begun").exists)
    claude.interrupt()
    claude.over(before)

    assert claude.turn("@text still here").text == "still here"


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_a_conversation_goes_on_in_another_process(agent: Make, end: str) -> None:
    first = agent()
    told = first.say("the word is zebra")
    first.over(0)
    begun = uuid4()
    if end == "leave":
        assert first.leave() == 0
    else:
        first.say("@slow 500 0.1", begun)
        first.hear(Printed, lambda printed: "word3" in printed.text)
        first.kill()
    conversation = first.beginning.conversation_id
    assert transcript(first.config, first.workspace, conversation).exists()

    second = agent(beginning=Beginning(conversation, resume=conversation))
    second.say("the word is lion", told)
    states = {told: second.hear(Delivered, lambda sent: sent.message_id == str(told)).state}
    if end == "kill":
        second.say("@slow 500 0.1", begun)
        states[begun] = second.hear(Delivered, lambda sent: sent.message_id == str(begun)).state
    recalled = second.turn("@recall").text or ""

    assert set(states.values()) == {"completed"}, "a message was taken twice"
    assert "zebra" in recalled
    assert "lion" not in recalled


def test_a_branch_leaves_the_conversation_alone(agent: Make) -> None:
    first = agent()
    first.turn("the word is zebra")
    first.leave()
    root, branch = first.beginning.conversation_id, uuid4()

    second = agent(beginning=Beginning(branch, resume=root))
    assert "zebra" in (second.turn("@recall").text or "")
    second.leave()
    third = agent(beginning=Beginning(root, resume=root))

    assert "recall" not in (third.turn("@recall").text or "")


def test_what_is_said_while_it_works_waits(agent: Make) -> None:
    claude = agent()
    claude.say("@slow 10 0.1")
    claude.hear(Printed)
    second = claude.say("@text and this")

    ended = claude.hear(TurnEnded, lambda turn: str(second) in turn.message_ids)

    assert ended.text == "and this"
    assert "word10 " in claude.text()


def test_errors_of_the_model_are_told_and_the_next_turn_works(agent: Make) -> None:
    claude = agent(max_retries=2)

    assert claude.turn("@flaky 529 1").text == "recovered"
    retry = claude.hear(Told, lambda told: told.fields.get("subtype") == "api_retry")
    assert retry.fields["error_status"] == 529
    assert claude.turn("@cut 1").text == "recovered"
    for status in (401, 404):
        assert claude.turn(f"@status {status}").is_error
    assert claude.turn("@text alive").text == "alive"


def test_unknown_words_do_no_harm(agent: Make) -> None:
    claude = agent()
    for line in (b"\n", b'{"type":"nothing_we_know"}\n', messages.allow("never-asked")):
        claude.tell(line)

    assert claude.turn("@text fine").text == "fine"
    assert [each for each in claude.said if isinstance(each, Asked)] == []


def told_by(claude: Agent, kind: str) -> list[dict[str, Any]]:
    """Return lines of a kind as they came."""
    lines = [json.loads(line) for line in bytes(claude.raw).splitlines()]
    return [line for line in lines if line.get("type") == kind]
