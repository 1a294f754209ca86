"""How Claude Code is started: what a client chooses within what the operator allows, and nothing of a client's read as a flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from core.claude_options import Allowed, ClaudeOptions, faults
from runner.programs.claude_code.invocation import FIXED, Account, Beginning, command_line, transcript, variables

PROGRAM = Path("/opt/claude")
ONE, OTHER = UUID(int=1), UUID(int=2)
UNSAID, NEW = Allowed(), Beginning(ONE)


def flags(options: ClaudeOptions, allowed: Allowed = UNSAID, beginning: Beginning = NEW) -> dict[str, str]:
    line = command_line(PROGRAM, beginning, options, allowed)
    assert line[: 1 + len(FIXED)] == (str(PROGRAM), *FIXED)
    return {flag.partition("=")[0]: flag.partition("=")[2] for flag in line[1 + len(FIXED) :]}


def test_without_a_choice_the_operators_holds() -> None:
    found = flags(
        ClaudeOptions(), Allowed(model="m", max_turns=7, max_budget_usd=0.5, disallowed_tools=("SendMessage",))
    )

    assert found == {
        "--session-id": str(ONE),
        "--permission-mode": "manual",
        "--model": "m",
        "--max-turns": "7",
        "--max-budget-usd": "0.5",
        "--disallowedTools": "SendMessage",
    }


def test_a_choice_stands_behind_its_flag_whatever_it_begins_with() -> None:
    chosen = ClaudeOptions(
        model="other",
        permission_mode="plan",
        allowed_tools=("Read", "Bash(git status *)"),
        disallowed_tools=("Write",),
        append_system_prompt="--dangerously-skip-permissions",
    )
    found = flags(chosen, Allowed(disallowed_tools=()))

    assert found["--append-system-prompt"] == "--dangerously-skip-permissions"
    assert (found["--allowedTools"], found["--disallowedTools"]) == ("Read,Bash(git status *)", "Write")
    assert (found["--model"], found["--permission-mode"]) == ("other", "plan")


def test_a_conversation_begins_goes_on_or_branches() -> None:
    assert Beginning(ONE).flags() == [f"--session-id={ONE}"]
    assert Beginning(ONE, resume=ONE).flags() == [f"--resume={ONE}"]
    assert Beginning(OTHER, resume=ONE).flags() == [f"--resume={ONE}", "--fork-session", f"--session-id={OTHER}"]


@pytest.mark.parametrize(
    ("chosen", "where"),
    [
        ({"model": "dear"}, "model"),
        ({"permission_mode": "bypassPermissions"}, "permission_mode"),
        ({"max_turns": 8}, "max_turns"),
        ({"max_budget_usd": 2.5}, "max_budget_usd"),
    ],
)
def test_what_the_operator_does_not_allow_is_told(chosen: dict[str, Any], where: str) -> None:
    (fault,) = faults(ClaudeOptions(**chosen), Allowed(models=("cheap",), max_turns=7, max_budget_usd=2))
    assert fault["loc"] == ["program_options", where]


def test_what_is_allowed_has_no_fault() -> None:
    assert faults(ClaudeOptions(model="cheap", max_turns=7), Allowed(models=("cheap",), max_turns=7)) == []
    assert faults(ClaudeOptions(permission_mode="bypassPermissions"), Allowed(modes=("bypassPermissions",))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "--model"},
        {"model": ""},
        {"allowed_tools": ["Bash(a,b)"]},
        {"allowed_tools": ["-x"]},
        {"allowed_tools": ["Read\n"]},
        {"append_system_prompt": "a\x00b"},
        {"max_budget_usd": float("inf")},
        {"unknown": 1},
    ],
)
def test_what_is_no_option_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClaudeOptions(**wrong)


def test_its_variables_hold_the_account_and_its_directory() -> None:
    found = variables(Account("key", "http://127.0.0.1:1", max_retries=2), Path("/config"))

    assert (found["ANTHROPIC_API_KEY"], found["ANTHROPIC_BASE_URL"]) == ("key", "http://127.0.0.1:1")
    assert (found["CLAUDE_CONFIG_DIR"], found["CLAUDE_CODE_MAX_RETRIES"]) == ("/config", "2")
    assert found["CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"] == "1"
    assert "ANTHROPIC_API_KEY" not in variables(Account(None), Path("/config"))
    assert "key" not in repr(Account("key"))


def test_a_conversation_is_kept_under_its_directorys_name() -> None:
    found = transcript(Path("/config"), Path("/srv/a.b/c_d"), ONE)
    assert found == Path(f"/config/projects/-srv-a-b-c-d/{ONE}.jsonl")
