"""How a session's query becomes a command."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from core.errors import SpawnFailed
from core.programs import BUILT_IN_PROGRAMS
from core.settings import Settings, load_settings
from models.tables import Session
from runner.programs.claude_code import starting as claude
from runner.programs.commands import BUILT_IN, Command, command_of

PLAIN = load_settings({})


def session(program: str, query: str = "hello", terminal: dict[str, int] | None = None) -> Session:
    return Session(program=program, query=query, terminal=terminal)


def configured(**about: Any) -> Settings:
    return load_settings({"JELMORE_PROGRAMS": json.dumps({"p": {"argv": ["/bin/p"]} | about})})


def test_every_built_in_program_can_be_run() -> None:
    assert {*BUILT_IN, claude.NAME} == {*BUILT_IN_PROGRAMS}


def test_a_shell_runs_the_query() -> None:
    assert command_of(session("shell", "echo $HOME"), PLAIN) == Command(("/bin/sh", "-c", "echo $HOME"))


def test_cat_is_given_the_querys_line() -> None:
    assert command_of(session("cat"), PLAIN).stdin == b"hello\n"
    assert command_of(session("cat", "hello\n"), PLAIN).stdin == b"hello\n"


def test_an_unknown_program_is_not_run() -> None:
    with pytest.raises(SpawnFailed, match="no program named p"):
        command_of(session("p"), PLAIN)


def test_the_query_stands_where_the_arguments_say() -> None:
    settings = configured(argv=["/bin/p", "-c", "{query}", "--again={query}!", "{other}"])

    command = command_of(session("p", "a {query} 'b' $c"), settings)

    assert command.argv == ("/bin/p", "-c", "a {query} 'b' $c", "--again=a {query} 'b' $c!", "{other}")
    assert command.stdin == b""


def test_a_query_is_typed_where_it_is_no_argument() -> None:
    assert command_of(session("p"), configured()).stdin == b"hello\n"
    assert command_of(session("p", terminal={"rows": 24, "cols": 80}), configured()).stdin == b"hello\r"


def test_a_program_may_not_care_for_the_query() -> None:
    assert command_of(session("p"), configured(query="none")) == Command(("/bin/p",))


def test_a_command_says_how_it_is_ended_and_where_it_starts() -> None:
    command = command_of(
        session("p"),
        configured(stop_signal="INT", grace_seconds=9, directory="/srv", resumable=True, env={"A": "b"}),
    )

    assert (command.stop_signal, command.grace_seconds) == (signal.SIGINT, 9.0)
    assert (command.directory, command.resumable, command.env) == ("/srv", True, {"A": "b"})


def test_variables_are_not_shown() -> None:
    assert "hush" not in repr(command_of(session("p"), configured(env={"TOKEN": "hush"})))
