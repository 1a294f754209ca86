"""Waiting for conditions with a deadline, and finding processes that sessions left behind. The only pause of the tests is here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from runner import marks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from runner.marks import Found

T = TypeVar("T")

LOOK_SECONDS = 0.02


def eventually(condition: Callable[[], T | None], seconds: float = 10.0, *, every: float = LOOK_SECONDS) -> T:
    """Return what `condition` answers as soon as it is true, or passes its assertions; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        fault: AssertionError | None = None
        try:
            if answer := condition():
                return answer
        except AssertionError as unmet:
            fault = unmet
        if time.monotonic() > deadline:
            name = getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{name} did not come true within {seconds:g} s") from fault
        time.sleep(every)


def holds_for(condition: Callable[[], object], seconds: float, *, every: float = LOOK_SECONDS) -> None:
    """Fail if `condition` is false at any look during so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), "it did not stay so"
        time.sleep(every)


def marked(incarnations: Collection[UUID]) -> list[Found]:
    """Return the living processes of these worker incarnations' sessions, whatever they did to their environment."""
    tags = {incarnation.int & 0xFFFFFF for incarnation in incarnations}
    return marks.find(lambda found: found.incarnation in tags)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return marks.started(pid) is not None
