"""Conversations that outlive their process, with the real Claude Code and its stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from runner.programs.claude_code.invocation import Beginning, transcript
from runner.programs.claude_code.said import Delivered, Printed, TurnEnded
from tests.agents import EndedError
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.agents import Agent
    from tests.programs.messages_api import MessagesApi

    Make = Callable[..., Agent]


def test_a_conversation_goes_on_and_branches_in_other_processes(agent: Make) -> None:
    first = agent()
    first.turn("the word is zebra")
    root, branch = first.beginning.conversation_id, uuid4()
    assert first.leave() == 0
    assert transcript(first.config, first.workspace, root).exists()

    second = agent(beginning=Beginning(branch, resume=root))
    assert "zebra" in (second.turn("this in the branch\n@recall").text or "")
    second.leave()
    recalled = agent(beginning=Beginning(root, resume=root)).turn("@recall").text or ""

    assert "zebra" in recalled
    assert "branch" not in recalled


@pytest.mark.parametrize("during", ["text", "question"])
def test_what_was_said_to_a_process_that_was_killed_can_be_said_again(agent: Make, during: str) -> None:
    first = agent()
    root = first.beginning.conversation_id
    kept = transcript(first.config, first.workspace, root)
    told = first.say("the word is zebra")
    before = len(first.said)
    first.over(0)
    run = "@slow 20 0.05" if during == "text" else "@bash touch never"
    begun = first.say(run)
    if during == "text":
        first.hear(Printed, lambda printed: "word3" in printed.text, since=before)
    else:
        first.asked(before)
        eventually(lambda: '"toolu_' in kept.read_text())  # it is written a moment later
    first.kill()

    second = agent(beginning=Beginning(root, resume=root))
    second.say("the word is lion", told)
    second.say(run, begun)
    again = second.hear(Delivered, lambda sent: sent.message_id == str(begun))
    if again.state == "queued":  # nothing of its answer had been written down: it runs as if for the first time
        assert during == "text"
        second.hear(TurnEnded, lambda turn: str(begun) in turn.message_ids)
    recall = second.say("@recall")
    recalled = second.hear(TurnEnded, lambda turn: str(recall) in turn.message_ids).text or ""

    assert second.hear(Delivered, lambda sent: sent.message_id == str(told)).state == "completed"
    assert ("zebra" in recalled, "lion" in recalled, run in recalled) == (True, False, True)
    answered = [each for each in second.said if isinstance(each, TurnEnded) and str(begun) in each.message_ids]
    assert len(answered) == (again.state == "queued")
    assert not (second.workspace / "never").exists()


def test_a_conversation_that_is_not_there_is_not_gone_on_with(agent: Make) -> None:
    nowhere = uuid4()

    with pytest.raises((EndedError, BrokenPipeError)):
        agent(beginning=Beginning(nowhere, resume=nowhere))


def test_a_key_that_is_not_the_right_one_is_told(agent: Make, messages_api: MessagesApi) -> None:
    ended = agent(key="sk-ant-another-key", max_retries=0).turn("@status 401")

    assert ended.is_error
    assert not [each for each in messages_api.asked if "sk-ant-another-key" in str(each.body)]
