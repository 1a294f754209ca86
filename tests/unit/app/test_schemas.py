"""What clients may send."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.schemas import (
    ExtendRequest,
    InputRequest,
    NoMembers,
    SessionRequest,
    SignalRequest,
    TerminalSize,
)
from app.api.waits import WaitRequest
from app.bodies import validated
from core.errors import LineTooLong, ValidationFailed


def faults(body: dict[str, Any]) -> list[list[str | int]]:
    with pytest.raises(ValidationFailed) as refused:
        validated(SessionRequest, {"query": "true", **body})
    return [fault["loc"] for fault in refused.value.errors]


def test_null_in_an_optional_field_is_as_if_it_were_absent() -> None:
    optional = dict.fromkeys(set(SessionRequest.model_fields) - {"query"})

    assert validated(SessionRequest, {"query": "true", **optional}) == validated(SessionRequest, {"query": "true"})


@pytest.mark.parametrize(
    "body",
    [
        {"query": None},
        {"query": ""},
        {"query": "x" * 128_001},
        {"query": "ä" * 64_001},
        {"query": 1},
        {"user_id": ""},
        {"user_id": 7},
        {"metadata": []},
        {"metadata": {"a": "x" * 16 * 1024}},
        {"timeout_minutes": 0},
        {"timeout_minutes": 1441},
        {"timeout_minutes": "30"},
        {"timeout_minutes": 1.5},
        {"timeout_minutes": True},
        {"env": {"1A": "x"}},
        {"env": {"A-B": "x"}},
        {"env": {"": "x"}},
        {"env": {"JELMORE_SESSION_ID": "x"}},
        {"env": {"A": "x" * 64 * 1024}},
        {"idle_timeout_seconds": 0},
        {"idle_timeout_seconds": 86_401},
        {"idle_timeout_seconds": "9"},
        {"priority": "urgent"},
        {"priority": 3},
        {"unknown": 1},
        {"unknown": None},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_session_nobody_can_mean_is_refused_where_it_is_wrong(body: dict[str, Any]) -> None:
    assert faults(body) == [list(body)]


@pytest.mark.parametrize("value", [1, None, "x"])
def test_values_of_the_environment_are_strings(value: object) -> None:
    body = {"env": {"A": value}}
    if value == "x":
        assert validated(SessionRequest, {"query": "true", **body}).env == {"A": "x"}
    else:
        assert faults(body) == [["env", "A"]]


def test_the_longest_query_is_taken() -> None:
    assert validated(SessionRequest, {"query": "ä" * 64_000})


def test_a_whole_number_may_have_a_point() -> None:
    assert validated(SessionRequest, {"query": "true", "timeout_minutes": 30.0}).timeout_minutes == 30


@pytest.mark.parametrize("value", [[], "x", 1, None])
def test_a_body_is_an_object(value: object) -> None:
    with pytest.raises(ValidationFailed) as refused:
        validated(SessionRequest, value)

    assert refused.value.errors[0]["msg"] == "Input should be a JSON object"


def test_errors_never_repeat_what_was_sent() -> None:
    with pytest.raises(ValidationFailed) as refused:
        validated(SessionRequest, {"query": "true", "env": {"TOKEN": ["s3cret"]}, "timeout_minutes": "s3cret"})

    assert "s3cret" not in str(refused.value.errors)


@pytest.mark.parametrize(
    ("body", "exact"),
    [
        ({"input": "a"}, b"a\n"),
        ({"input": "a\n"}, b"a\n"),
        ({"input": ""}, b"\n"),
        ({"input": "ä"}, "ä\n".encode()),
        ({"input": "a", "newline": False}, b"a"),
        ({"input": "a", "raw": True}, b"a"),
        ({"input": "", "raw": True}, b""),
        ({"input": "a", "newline": None, "raw": None}, b"a\n"),
    ],
)
def test_input_ends_with_a_newline_unless_it_shall_not(body: dict[str, Any], exact: bytes) -> None:
    assert validated(InputRequest, body).exact(terminal=False) == exact


@pytest.mark.parametrize(
    ("body", "exact"),
    [
        ({"input": "a"}, b"a\r"),
        ({"input": "a\r"}, b"a\r"),
        ({"input": "a\n"}, b"a\n"),
        ({"input": ""}, b"\r"),
        ({"input": "a", "newline": False}, b"a"),
        ({"input": "a", "raw": True}, b"a"),
        ({"input": "x" * 5000, "raw": True}, b"x" * 5000),
        ({"input": "x" * 4095}, b"x" * 4095 + b"\r"),
    ],
)
def test_input_at_a_terminal_ends_as_enter_does(body: dict[str, Any], exact: bytes) -> None:
    assert validated(InputRequest, body).exact(terminal=True) == exact


@pytest.mark.parametrize("text", ["x" * 4096, "ä" * 2048, "x" * 4096 + "\n", "\r" + "x" * 4096 + "\ra"])
@pytest.mark.parametrize("newline", [True, False])
def test_a_line_too_long_for_a_terminal_is_refused(text: str, newline: bool) -> None:
    with pytest.raises(LineTooLong, match="raw"):
        validated(InputRequest, {"input": text, "newline": newline}).exact(terminal=True)


def test_input_has_a_size() -> None:
    assert validated(InputRequest, {"input": "x" * 64 * 1024})
    with pytest.raises(ValidationFailed):
        validated(InputRequest, {"input": "x" * (64 * 1024 + 1)})


# Terminals, signals, time.


@pytest.mark.parametrize("side", [0, 4097, -1, 1.5, "24", True, None])
@pytest.mark.parametrize("name", ["rows", "cols"])
def test_a_terminal_has_two_sides(side: object, name: str) -> None:
    size = {"rows": 24, "cols": 80, name: side}

    assert faults({"terminal": size}) == [["terminal", name]]
    with pytest.raises(ValidationFailed):
        validated(TerminalSize, size)


@pytest.mark.parametrize("size", [{}, {"rows": 24}, {"rows": 24, "cols": 80, "depth": 1}, [], "24x80"])
def test_a_terminal_has_nothing_else(size: object) -> None:
    assert faults({"terminal": size})


def test_the_largest_terminal_is_taken() -> None:
    size = {"rows": 4096, "cols": 1}

    assert validated(SessionRequest, {"query": "true", "terminal": {**size, "cols": 1.0}}).terminal == TerminalSize(
        **size
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("INT", "INT"),
        ("SIGINT", "INT"),
        ("sigint", "INT"),
        ("int", "INT"),
        ("SigKill", "KILL"),
        ("stop", "STOP"),
        ("CONT", "CONT"),
        ("WINCH", "WINCH"),
        ("SIGCLD", "CHLD"),
    ],
)
def test_a_signal_has_a_name_in_any_case(name: str, shown: str) -> None:
    assert validated(SignalRequest, {"signal": name}).signal == shown


@pytest.mark.parametrize("name", ["", "SIG", "9", 9, "NOPE", "SIGSIGINT", "SIG_IGN", "_DFL", "INT ", None, ["INT"]])
def test_what_is_no_signal_is_refused(name: object) -> None:
    with pytest.raises(ValidationFailed) as refused:
        validated(SignalRequest, {"signal": name})

    assert [fault["loc"] for fault in refused.value.errors] == [["signal"]]


@pytest.mark.parametrize("minutes", [0, 1441, 1.5, "1", None])
def test_more_time_is_whole_minutes_of_a_day(minutes: object) -> None:
    assert validated(ExtendRequest, {"timeout_minutes": 1440})
    with pytest.raises(ValidationFailed):
        validated(ExtendRequest, {"timeout_minutes": minutes})


def test_what_takes_nothing_takes_nothing() -> None:
    assert validated(NoMembers, {}) == NoMembers()
    with pytest.raises(ValidationFailed):
        validated(NoMembers, {"force": True})


# Waiting.


@pytest.mark.parametrize(
    "until",
    [
        {"status": ["idle"]},
        {"status": ["completed", "terminated", "failed"]},
        {"exit": True},
        {"exit": True, "text": None},
        {"text": "x" * 4096},
        {"regex": "x" * 1000},
        {"idle_ms": 10_000},
    ],
    ids=lambda until: str(until)[:40],
)
def test_one_thing_is_waited_for(until: dict[str, Any]) -> None:
    wanted = validated(WaitRequest, {"until": until})

    assert (wanted.from_offset, wanted.timeout_seconds) == (0, 10)


@pytest.mark.parametrize(
    "until",
    [
        {},
        None,
        [],
        {"exit": False},
        {"exit": 1},
        {"exit": None},
        {"exit": True, "text": "x"},
        {"status": []},
        {"status": "idle"},
        {"status": ["asleep"]},
        {"status": [1]},
        {"text": ""},
        {"text": "x" * 4097},
        {"text": "ä" * 2049},
        {"text": 1},
        {"regex": ""},
        {"regex": "x" * 1001},
        {"idle_ms": 0},
        {"idle_ms": 10_001},
        {"idle_ms": "5"},
        {"prompt": "$"},
    ],
    ids=lambda until: str(until)[:40],
)
def test_what_cannot_be_waited_for_is_refused(until: object) -> None:
    with pytest.raises(ValidationFailed):
        validated(WaitRequest, {"until": until})


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("from_offset", -1),
        ("from_offset", 2**63),
        ("from_offset", "0"),
        ("timeout_seconds", 0.9),
        ("timeout_seconds", 25.1),
        ("timeout_seconds", "5"),
        ("timeout_seconds", True),
    ],
)
def test_a_wait_has_bounds(member: str, value: object) -> None:
    with pytest.raises(ValidationFailed) as refused:
        validated(WaitRequest, {"until": {"exit": True}, member: value})

    assert [fault["loc"] for fault in refused.value.errors] == [[member]]


def test_the_longest_quiet_is_as_long_as_the_longest_wait() -> None:
    assert validated(WaitRequest, {"until": {"idle_ms": 25_000}, "timeout_seconds": 25}).until.idle_ms == 25_000
