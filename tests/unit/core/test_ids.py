"""Identifiers grow with time and never repeat."""

from __future__ import annotations

from uuid import RFC_4122

from core.ids import uuid7


def test_ids_are_of_version_7_and_do_not_repeat() -> None:
    made = [uuid7() for _ in range(1000)]

    assert {each.version for each in made} == {7}
    assert {each.variant for each in made} == {RFC_4122}
    assert len(set(made)) == 1000


def test_ids_sort_by_the_millisecond() -> None:
    made = [uuid7() for _ in range(1000)]
    stamps = [each.int >> 80 for each in made]

    assert stamps == sorted(stamps)
