"""docs/events.md says what the code does."""

from __future__ import annotations

from app.openapi.event_page import BEGIN, PAGE, made
from models.events import EventKind


def test_the_page_of_events_is_what_the_code_says() -> None:
    _by_hand, begin, rest = PAGE.read_text().partition(BEGIN)

    assert begin + rest == made(), "run: make openapi"
    assert all(f"### `{kind}`" in rest for kind in EventKind)
