"""JSON as it is taken."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.json_input import DEEPEST, parse
from core.errors import MalformedBody, ValidationFailed

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
VALUES = st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUES)
def test_what_can_be_stored_is_taken_as_it_is(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_our_errors(body: bytes) -> None:
    with suppress(MalformedBody, ValidationFailed):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b'{"a": [-1e999]}',
        b"18446744073709551616",
        b"-9223372036854775809",
        b"9" * 5000,
        b"[" * 200_000,
        b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2),
        b'{"a":' * 200_000,
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "\\u0061": 2}}]',
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        '"utf-16"'.encode("utf-16"),
        b'"raw \x00 in a string"',
        b"{} {}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(body)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (rb'"\u0000"', []),
        (rb'{"query": "a\u0000"}', ["query"]),
        (rb'{"metadata": {"a": [1, {"b": "\ud800"}]}}', ["metadata", "a", 1, "b"]),
        (rb'{"env": {"A\u0000": "x"}}', ["env", "A\N{REPLACEMENT CHARACTER}"]),
        (rb'{"\udfff": 1}', ["\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_text_that_nothing_can_store_is_refused_wherever_it_stands(body: bytes, loc: list[str | int]) -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse(body)

    assert [fault["loc"] for fault in refused.value.errors] == [loc]


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse(rb'"\ud83d\ude00"') == "\N{GRINNING FACE}"
