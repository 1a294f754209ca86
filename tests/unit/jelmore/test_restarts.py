"""When `jelmore up` starts a process again."""

from __future__ import annotations

from jelmore.restarts import Restarts


def crash(restarts: Restarts, at: float, after: float = 0.1) -> float:
    """It is started, and ends after so many seconds; return the pause."""
    restarts.note_start(at)
    return restarts.note_end(at + after)


def test_pauses_double_up_to_half_a_minute() -> None:
    restarts = Restarts()

    assert [crash(restarts, at=100.0 * n) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_process_that_ran_a_minute_is_started_again_at_once() -> None:
    restarts = Restarts()
    for n in range(5):
        crash(restarts, at=100.0 * n)

    assert crash(restarts, at=1000, after=60) == 0.5


def test_nothing_is_started_before_its_pause_is_over() -> None:
    restarts = Restarts()
    crash(restarts, at=10, after=1)

    assert not restarts.is_due(11.4)
    assert restarts.is_due(11.5)


def test_what_runs_is_never_due() -> None:
    restarts = Restarts()
    crash(restarts, at=10)
    restarts.note_start(12)

    assert not restarts.is_due(100)


def test_five_crashes_without_having_come_up_are_hopeless() -> None:
    restarts = Restarts()
    for n in range(4):
        crash(restarts, at=100.0 * n)
    assert not restarts.hopeless

    crash(restarts, at=500)
    assert restarts.hopeless


def test_what_once_came_up_is_never_given_up() -> None:
    restarts = Restarts()
    restarts.note_start(0)
    restarts.note_running(5)
    for n in range(20):
        crash(restarts, at=100.0 * n)

    assert not restarts.hopeless
