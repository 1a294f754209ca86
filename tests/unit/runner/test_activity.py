"""What a process is doing, decided from what was seen of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.lifecycle import Status
from runner.activity import LEAST_SECONDS, Activity, Doing

IDLE_AFTER = 30.0


@pytest.fixture
def activity() -> Activity:
    return Activity(IDLE_AFTER, now=0)


def test_a_read_seen_twice_is_waiting_for_input(activity: Activity) -> None:
    activity.saw(Doing.READING, now=0.3)
    assert activity.change(now=0.3) is None
    activity.saw(Doing.READING, now=0.4)
    assert activity.change(now=0.4) is Status.WAITING_INPUT


def test_output_between_two_looks_begins_anew(activity: Activity) -> None:
    activity.saw(Doing.READING, now=0.3)
    activity.printed(now=0.35, at_prompt=True)
    activity.saw(Doing.READING, now=0.4)

    assert activity.change(now=0.4) is None


def test_input_ends_the_waiting(activity: Activity) -> None:
    activity.saw(Doing.READING, now=0.3)
    activity.saw(Doing.READING, now=0.4)
    activity.change(now=0.4)
    activity.given_input(now=5)

    assert activity.change(now=5) is Status.ACTIVE


def test_watching_counts_once_it_is_quiet(activity: Activity) -> None:
    activity.saw(Doing.WATCHING, now=0.3)
    assert activity.change(now=0.3) is None
    activity.saw(Doing.WATCHING, now=0.6)
    assert activity.change(now=0.6) is Status.WAITING_INPUT


def test_where_nothing_can_be_seen_a_prompt_and_quiet_stand_in(activity: Activity) -> None:
    activity.printed(now=0.1, at_prompt=True)
    activity.saw(Doing.UNKNOWN, now=0.6)
    assert activity.change(now=0.6) is None
    activity.saw(Doing.UNKNOWN, now=1.2)
    assert activity.change(now=1.2) is Status.WAITING_INPUT


def test_where_nothing_can_be_seen_a_whole_line_is_no_prompt(activity: Activity) -> None:
    activity.printed(now=0.1, at_prompt=False)
    activity.saw(Doing.UNKNOWN, now=5)

    assert activity.change(now=5) is None


def test_without_output_it_is_idle(activity: Activity) -> None:
    activity.saw(Doing.BUSY, now=1)

    assert activity.change(now=IDLE_AFTER - 0.1) is None
    assert activity.change(now=IDLE_AFTER) is Status.IDLE
    activity.printed(now=40, at_prompt=False)
    assert activity.change(now=40) is Status.ACTIVE


def test_waiting_for_input_wins_over_idle(activity: Activity) -> None:
    activity.saw(Doing.READING, now=0.3)
    activity.saw(Doing.READING, now=0.4)
    activity.change(now=0.5)

    assert activity.change(now=IDLE_AFTER * 2) is None


def test_one_that_stops_waiting_by_itself_is_active_before_it_is_idle(activity: Activity) -> None:
    activity.saw(Doing.READING, now=0.3)
    activity.saw(Doing.READING, now=0.4)
    activity.change(now=0.5)
    activity.saw(Doing.BUSY, now=100)

    assert activity.change(now=100) is Status.ACTIVE
    assert activity.change(now=100 + IDLE_AFTER) is Status.IDLE


steps = st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["printed", "input", *Doing])), min_size=1, max_size=60)


@given(steps)
def test_changes_are_real_ones_and_four_a_second_at_most(steps: list[tuple[float, str | Doing]]) -> None:
    activity, now = Activity(IDLE_AFTER, now=0), 0.0
    told, told_at = Status.ACTIVE, 0.0
    for pause, step in steps:
        now += pause
        if step == "printed":
            activity.printed(now, at_prompt=True)
        elif step == "input":
            activity.given_input(now)
        elif isinstance(step, Doing) and activity.look_due(now):
            activity.saw(step, now)
        status = activity.change(now)
        if status is not None:
            assert status is not told
            assert now - told_at >= LEAST_SECONDS
            told, told_at = status, now
