"""The timer wheel: nobody is looked at too early, nobody is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.wheel import Wheel


def test_what_is_due_comes_once_in_the_first_turn_at_its_time() -> None:
    wheel: Wheel[str] = Wheel(0.1, 100.0)
    wheel.add("soon", 100.25)
    wheel.add("later", 101.0)

    assert list(wheel.turn(100.2)) == []
    assert list(wheel.turn(100.31)) == ["soon"]
    assert list(wheel.turn(105.0)) == ["later"]
    assert list(wheel.turn(200.0)) == []


def test_what_is_overdue_or_added_meanwhile_comes_in_the_next_turn() -> None:
    wheel: Wheel[str] = Wheel(0.1, 100.0)
    wheel.add("overdue", 90.0)
    for item in wheel.turn(100.11):
        wheel.add(f"{item} again", 100.05)

    assert list(wheel.turn(100.11)) == []
    assert list(wheel.turn(100.21)) == ["overdue again"]


@given(st.lists(st.floats(0, 50)), st.lists(st.floats(0, 10), min_size=1))
def test_everything_comes_exactly_once_and_never_early(times: list[float], steps: list[float]) -> None:
    wheel: Wheel[float] = Wheel(0.5, 0.0)
    for at in times:
        wheel.add(at, at)
    seen, now = [], 0.0
    for step in [*steps, 60.0]:
        now += step
        due = list(wheel.turn(now))
        assert all(at <= now for at in due)
        seen += due
    assert sorted(seen) == sorted(times)
