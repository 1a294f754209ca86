"""One conversation each with the real Claude Code and its stand-in, as the service speaks to them; the model does as it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner.programs.claude_code import messages
from runner.programs.claude_code.said import Asked, Became, Doing, Printed, Told, TurnEnded, Withdrawn
from tests.checks import eventually

if TYPE_CHECKING:
    from tests.agents import Agent


def test_text_comes_as_it_is_said_and_the_next_turn_remembers(conversing: Agent) -> None:
    before = len(conversing.said)

    first = conversing.turn("the word is zebra\n@slow 4 0.1")
    second = conversing.turn("@recall")

    assert (first.is_error, first.text) == (False, "word1 word2 word3 word4 ")
    printed = [each.text for each in conversing.said[before:] if isinstance(each, Printed)]
    assert printed[:4] == ["word1 ", "word2 ", "word3 ", "word4 "]
    assert "zebra" in (second.text or "")
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert 0 < first.cost_usd < second.cost_usd
    states = [each.doing for each in conversing.said[before:] if isinstance(each, Became)]
    assert states == [Doing.RUNNING, Doing.IDLE] * 2


@pytest.mark.parametrize("answer", ["allow", "change", "deny"])
def test_a_tool_does_what_it_was_allowed(conversing: Agent, answer: str) -> None:
    before, directory = len(conversing.said), conversing.workspace / answer
    directory.mkdir()
    conversing.say(f"@bash touch {answer}/asked && echo from-the-tool")
    asked = conversing.asked(before)
    assert (asked.kind, asked.tool) == ("permission", "Bash")
    assert asked.input["command"] == f"touch {answer}/asked && echo from-the-tool"
    assert [each.doing for each in conversing.said if isinstance(each, Became)][-1] is Doing.REQUIRES_ACTION

    changed = {"command": f"touch {answer}/changed && echo from-the-change"}
    lines, left, told = {
        "allow": (messages.allow(asked.request_id), ["asked"], "from-the-tool"),
        "change": (messages.allow(asked.request_id, changed), ["changed"], "from-the-change"),
        "deny": (messages.deny(asked.request_id, "rather not today"), [], "rather not today"),
    }[answer]
    conversing.tell(lines)
    ended = conversing.over(before)

    assert [each.name for each in directory.iterdir()] == left
    assert told in (ended.text or "")


def test_a_question_is_answered(conversing: Agent) -> None:
    before = len(conversing.said)
    options = [{"label": "Blue", "description": "b"}, {"label": "Red", "description": "r"}]
    question = {"question": "Which colour?", "header": "Colour", "multiSelect": False, "options": options}
    conversing.say(f"@tool AskUserQuestion {json.dumps({'questions': [question]})}")
    asked = conversing.asked(before)
    assert asked.kind == "question"

    conversing.tell(messages.allow(asked.request_id, {**asked.input, "answers": {"Which colour?": "Blue"}}))

    assert "Blue" in (conversing.over(before).text or "")


@pytest.mark.parametrize("during", ["text", "question", "silence", "tool"])
def test_an_interrupt_ends_the_turn_and_nothing_else(conversing: Agent, during: str) -> None:
    before, file = len(conversing.said), conversing.workspace / f"in-{during}"
    run = {"text": "@slow 500 0.1", "silence": "@hang", "tool": f"@bash touch {file.name} && tail -f /dev/null"}
    conversing.say(run.get(during, f"@bash touch {file.name}"))
    if during == "text":
        conversing.hear(Printed, lambda printed: "word3" in printed.text, since=before)
    elif during == "silence":
        conversing.hear(Became, since=before)
    else:
        asked = conversing.asked(before)
        if during == "tool":
            conversing.tell(messages.allow(asked.request_id))
            eventually(file.exists)

    conversing.interrupt()
    conversing.over(before)

    assert file.exists() is (during == "tool")
    if during == "question":
        conversing.hear(Withdrawn, since=before)
    assert conversing.turn("@text still here").text == "still here"


def test_what_is_said_while_it_works_waits(conversing: Agent) -> None:
    before = len(conversing.said)
    conversing.say("@slow 10 0.1")
    conversing.hear(Printed, since=before)
    second = conversing.say("@text and this")

    ended = conversing.hear(TurnEnded, lambda turn: str(second) in turn.message_ids, since=before)

    assert ended.text == "and this"
    assert "word10 " in conversing.text(before)
    conversing.over(conversing.said.index(ended))


def test_errors_of_the_model_are_told_and_the_next_turn_works(conversing: Agent) -> None:
    before = len(conversing.said)

    assert conversing.turn("@flaky 529 1").text == "recovered"
    retry = conversing.hear(Told, lambda told: told.fields.get("subtype") == "api_retry", since=before)
    assert retry.fields["error_status"] == 529
    assert conversing.turn("once more\n@cut 1").text == "recovered"
    for status in (401, 404):
        assert conversing.turn(f"@status {status}").is_error
    assert conversing.turn("@text alive").text == "alive"


def test_unknown_words_do_no_harm(conversing: Agent) -> None:
    before = len(conversing.said)
    for line in (b"\n", b'{"type":"nothing_we_know"}\n', messages.allow("never-asked")):
        conversing.tell(line)

    assert conversing.turn("@text fine").text == "fine"
    assert [each for each in conversing.said[before:] if isinstance(each, Asked)] == []
