"""Rates as settings spell them."""

from __future__ import annotations

import pytest

from core.rates import UNITS, Rate, parse_rate


@pytest.mark.parametrize("unit", UNITS)
def test_a_rate_is_a_count_and_a_window(unit: str) -> None:
    assert parse_rate(f"20/{unit}") == Rate(20, unit)
    assert Rate(20, unit).window_seconds == UNITS[unit]


def test_a_rate_reads_as_it_is_written() -> None:
    assert str(parse_rate("1000/hour")) == "1000/hour"


@pytest.mark.parametrize("none", ["", None])
def test_an_empty_rate_is_no_limit(none: str | None) -> None:
    assert parse_rate(none) is None


@pytest.mark.parametrize(
    "text",
    ["20", "20/", "/minute", "0/minute", "-1/minute", "1.5/hour", "20/week", "20 / minute", "²/minute", 20, True],
)
def test_anything_else_is_refused_and_not_repeated(text: object) -> None:
    with pytest.raises(ValueError, match="is not of the form 20/minute") as refused:
        parse_rate(text)

    assert "²" not in str(refused.value)
