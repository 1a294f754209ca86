"""Secrets are taken out of log lines, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.redaction import redactor

KEY = "a-key-of-somebody-else"
REDACT = redactor([KEY, "user", f"{KEY}-longer"])


def shown(value: Any, name: str = "value") -> Any:
    return REDACT(None, "info", {name: value})[name]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdefgh, more", "Authorization: Bearer ***, more"),
        ("Authorization: Basic abc", "Authorization: Basic ***"),
        ("{'Authorization': 'hush'}", "{'Authorization': '***'}"),
        ("sent bearer hushhush", "sent bearer ***"),
        ("jelmore.v1, bearer.hushhush", "jelmore.v1, bearer.***"),
        ("key jmr_018f-7_s3cr3t-_x.", "key jmr_018f-7_***."),
        ("postgresql://u:hush@h/d", "postgresql://u:***@h/d"),
        ("GET /x?after=1&ticket=hush", "GET /x?after=1&ticket=***"),
        (f"in{KEY}side", "in***side"),
        (f"{KEY}-longer", "***"),
        ("user, users and (user)", "***, users and (***)"),
    ],
)
def test_a_text_keeps_all_but_its_secrets(text: str, left: str) -> None:
    assert shown(text) == left


@pytest.mark.parametrize("name", ["authorization", "Authorization", "password", "token", "ticket", "cookie", "api_key"])
def test_a_member_that_is_called_a_secret_is_one(name: str) -> None:
    assert shown("anything", name) == "***"
    assert shown({"deep": [{name: 5}]}) == {"deep": [{name: "***"}]}


@pytest.mark.parametrize(
    "wrapped", [[KEY], (KEY,), {KEY}, {"a": {"b": [KEY]}}, OSError(KEY), KEY.encode(), Exception({"x": KEY})], ids=repr
)
def test_a_secret_is_found_wherever_it_is(wrapped: Any) -> None:
    assert KEY not in str(shown(wrapped))


def test_a_secret_is_found_however_deep() -> None:
    deep: Any = KEY
    for _ in range(100):
        deep = [deep]

    assert KEY not in str(shown(deep))


@pytest.mark.parametrize("value", [None, True, 3, 2.5, datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7)])
def test_what_is_no_text_stays_what_it_is(value: Any) -> None:
    assert shown(value) is value


@given(st.text(alphabet=st.characters(categories=["L", "N", "Zs"])))
def test_ordinary_words_stay(text: str) -> None:
    redact = redactor([])

    if "bearer" not in text.lower():
        assert redact(None, "info", {"event": text})["event"] == text


@given(st.text(), st.text(), st.text(min_size=16))
def test_a_long_key_is_found_in_any_text(before: str, after: str, key: str) -> None:
    redact = redactor([key])

    assert key not in redact(None, "info", {"event": before + key + after})["event"] or key in "***"


def test_without_secrets_nothing_is_hidden() -> None:
    assert redactor([])(None, "info", {"event": "all is well"}) == {"event": "all is well"}
