"""What clients may send."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.schemas import InputRequest, SessionRequest
from app.bodies import validated
from core.errors import ValidationFailed


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


def test_input_has_a_size() -> None:
    assert validated(InputRequest, {"input": "x" * 64 * 1024})
    with pytest.raises(ValidationFailed):
        validated(InputRequest, {"input": "x" * (64 * 1024 + 1)})
