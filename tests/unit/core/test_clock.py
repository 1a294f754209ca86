"""Clocks tell aware UTC times and monotonic seconds; the tests' one only moves when told."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import pytest

from core.clock import SystemClock
from tests.clock import FakeClock

if TYPE_CHECKING:
    from core.clock import Clock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
def test_a_clock_tells_utc_and_never_goes_back(clock: Clock) -> None:
    assert clock.at().tzinfo is UTC
    assert clock.now() <= clock.now()


def test_passing_time_moves_both_clocks() -> None:
    clock = FakeClock()
    at, now = clock.at(), clock.now()

    clock.advance(1.5)

    assert (clock.at() - at, clock.now() - now) == (timedelta(seconds=1.5), 1.5)


def test_a_set_wall_clock_lets_no_time_pass() -> None:
    clock = FakeClock()
    at, now = clock.at(), clock.now()

    clock.jump(-3600)

    assert (at - clock.at(), clock.now()) == (timedelta(hours=1), now)
