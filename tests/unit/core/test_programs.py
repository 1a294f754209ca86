"""What JELMORE_PROGRAMS may say."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.programs import LARGEST_FILE, ConfiguredProgram, parse_programs

if TYPE_CHECKING:
    from pathlib import Path

REPL = """
[python]
argv = ["/usr/bin/python3", "-i"]
query = "none"
terminal = { rows = 50, cols = 132 }
stop_signal = "SIGINT"
grace_seconds = 2
directory = "/srv"
resumable = true
env = { PYTHONSTARTUP = "", LANG = "C" }

[greet]
argv = ["/bin/echo", "hello {query}", "{query}"]
terminal = true

[sort]
argv = ["/usr/bin/sort"]
"""


def of(**about: Any) -> ConfiguredProgram:
    (program,) = parse_programs(json.dumps({"p": {"argv": ["/bin/p"]} | about}))
    return program


def refused(text: str) -> list[str]:
    with pytest.raises(ValueError, match=r"\w") as told:
        parse_programs(text)
    return str(told.value).split("\n")


def refused_of(**about: Any) -> list[str]:
    return refused(json.dumps({"p": {"argv": ["/bin/p"]} | about}))


def test_a_file_lists_programs(tmp_path: Path) -> None:
    file = tmp_path / "programs.toml"
    file.write_text(REPL)
    python, greet, sort = parse_programs(str(file))

    assert python == ConfiguredProgram(
        name="python",
        argv=("/usr/bin/python3", "-i"),
        query="none",
        env={"PYTHONSTARTUP": "", "LANG": "C"},
        terminal={"rows": 50, "cols": 132},
        stop_signal=signal.SIGINT,
        grace_seconds=2.0,
        directory="/srv",
        resumable=True,
    )
    assert (greet.query, greet.terminal) == ("argument", {"rows": 24, "cols": 80})
    assert sort == ConfiguredProgram("sort", ("/usr/bin/sort",))


def test_what_is_not_said_is_as_usual() -> None:
    program = of()

    assert (program.query, program.env, program.terminal, program.stop_signal) == ("stdin", {}, None, signal.SIGTERM)
    assert (program.grace_seconds, program.directory, program.resumable) == (None, None, False)


def test_the_query_goes_where_the_arguments_say_so() -> None:
    assert of(argv=["/bin/p", "-c", "{query}"]).query == "argument"
    assert of(argv=["/bin/p", "--text={query}"], query="argument").query == "argument"
    assert of(query="none").query == "none"


@pytest.mark.parametrize("name", ["INT", "SIGINT", "sigint", "int"])
def test_a_signal_is_spelled_as_people_do(name: str) -> None:
    assert of(stop_signal=name).stop_signal == signal.SIGINT


@pytest.mark.parametrize(
    ("about", "member"),
    [
        ({"argv": []}, "argv"),
        ({"argv": "/bin/p"}, "argv"),
        ({"argv": ["/bin/p", 1]}, "argv"),
        ({"argv": ["/bin/p", "a\0b"]}, "argv"),
        ({"argv": ["p"]}, "argv"),
        ({"argv": ["/bin/{query}"]}, "argv"),
        ({"argv": ["/bin/p", "{query}"], "query": "stdin"}, "argv"),
        ({"query": "argument"}, "argv"),
        ({"query": "file"}, "query"),
        ({"query": None}, "query"),
        ({"env": []}, "env"),
        ({"env": {"A": 1}}, "env"),
        ({"env": {"1A": ""}}, "env"),
        ({"env": {"JELMORE_SESSION_ID": ""}}, "env"),
        ({"env": {"A": "a\0b"}}, "env"),
        ({"terminal": 1}, "terminal"),
        ({"terminal": {}}, "terminal"),
        ({"terminal": {"rows": 24}}, "terminal"),
        ({"terminal": {"rows": 0, "cols": 80}}, "terminal"),
        ({"terminal": {"rows": True, "cols": 80}}, "terminal"),
        ({"terminal": {"rows": 24, "cols": 80, "depth": 2}}, "terminal"),
        ({"stop_signal": "STOP"}, "stop_signal"),
        ({"stop_signal": 15}, "stop_signal"),
        ({"grace_seconds": 0}, "grace_seconds"),
        ({"grace_seconds": True}, "grace_seconds"),
        ({"grace_seconds": "5"}, "grace_seconds"),
        ({"grace_seconds": 1e9}, "grace_seconds"),
        ({"directory": "srv"}, "directory"),
        ({"resumable": "yes"}, "resumable"),
        ({"shell": True}, "shell"),
    ],
)
def test_a_wrong_member_is_told_by_its_name_and_its_programs(about: dict[str, Any], member: str) -> None:
    (told,) = refused_of(**about)

    assert member in told
    assert told.endswith("(program p)")


def test_all_faults_are_told_together() -> None:
    told = refused(json.dumps({"p": {"argv": ["p"], "query": 1}, "shell": {"argv": ["/bin/sh"]}, "q": {}, "r": []}))

    assert [fault.partition("(program ")[2] for fault in told] == ["p)", "p)", "shell)", "q)", "r)"]


@pytest.mark.parametrize("name", ["", "a b", "a,b", "-a", "a\nb", "ä", "a" * 65])
def test_a_name_is_a_word(name: str) -> None:
    (told,) = refused(json.dumps({name: {"argv": ["/bin/p"]}}))

    assert "names" in told


@pytest.mark.parametrize(
    "text", ["{", '{"p"}', "{}}", '{"p": {"argv": ["/a"]}, "p": {"argv": ["/b"]}}', '{"p": ' + "[" * 100_000]
)
def test_broken_json_is_a_fault(text: str) -> None:
    assert len(refused(text)) == 1


@pytest.mark.parametrize(
    "content", [b"[python", b"[p]\nargv = [1]\n[p]\nargv = [2]\n", b"\xff", b"#" * (LARGEST_FILE + 1)]
)
def test_a_broken_file_is_a_fault(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "programs.toml"
    file.write_bytes(content)

    assert len(refused(str(file))) == 1


def test_a_broken_file_is_told_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "programs.toml"
    file.write_text('[p]\nargv = ["/bin/p"\n')

    assert "TOML" in refused(str(file))[0]


@pytest.mark.parametrize("path", ["/nonexistent", ".", "/dev/zero", "a\0b", "x" * 5000, "[1]", " "])
def test_what_is_no_file_is_a_fault(path: str) -> None:
    (told,) = refused(path)

    assert "file" in told


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert "not a file" in refused(str(pipe))[0]


def test_values_of_variables_are_never_shown() -> None:
    assert "hush" not in repr(of(env={"TOKEN": "hush"}))


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.dictionaries(
            st.sampled_from(["argv", "query", "env", "terminal", "stop_signal", "grace_seconds", "directory", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=4,
            ),
        ),
        max_size=3,
    )
)
def test_whatever_is_said_there_are_programs_or_faults(programs: dict[str, Any]) -> None:
    try:
        parsed = parse_programs(json.dumps(programs))
    except ValueError:
        return  # and nothing else
    assert [program.name for program in parsed] == list(programs)
