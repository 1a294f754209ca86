"""The Procfile: what platforms start, and what `jelmore up` starts, are the same commands."""

from __future__ import annotations

from pathlib import Path

from jelmore.children import parse_procfile
from jelmore.up import ORDER

PROCFILE = Path(__file__).parents[3] / "Procfile"


def test_comments_and_empty_lines_are_no_processes() -> None:
    assert parse_procfile("# a: b\n\nweb: run 'x:y()'\n") == {"web": "run 'x:y()'"}


def test_every_process_of_the_procfile_is_started() -> None:
    assert set(parse_procfile(PROCFILE.read_text())) == {"release", *ORDER}


def test_every_command_is_one_program() -> None:
    """They are started with `exec`, so that a signal reaches the program and not a shell before it."""
    for command in parse_procfile(PROCFILE.read_text()).values():
        assert not {"&&", "||", ";", "|", "&"} & set(command.split())
        assert "=" not in command.split()[0]
