"""Waiting for conditions with a deadline, and finding processes that sessions left behind. The only pause of the tests is here."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner import marks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from uuid import UUID

    from runner.marks import Found

T = TypeVar("T")

LOOK_SECONDS = 0.02
RUNNING = ("active", "idle", "waiting_input")
"""Statuses of a session whose process runs."""


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


def wait(seconds: float) -> None:
    """Let a fault last: its length is what is tested."""
    threading.Event().wait(seconds)


def how(shown: dict[str, Any]) -> tuple[str, str]:
    """Return (status, reason) of a session as it is shown, or of its `terminated` event."""
    return shown["status"], shown["reason"]


def runs(shown: dict[str, Any]) -> bool:
    """Whether a session's process runs, by what is shown of it."""
    return shown["status"] in RUNNING


def marked(incarnations: Collection[UUID]) -> list[Found]:
    """Return the living processes of these worker incarnations' sessions, whatever they did to their environment."""
    tags = {incarnation.int & 0xFFFFFF for incarnation in incarnations}
    return marks.find(lambda found: found.incarnation in tags)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return marks.started(pid) is not None


def family(pid: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    found = [pid]
    for parent in found:  # grows while it is walked
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and all its descendants for a while: PostgreSQL's hear nothing of a signal to its group."""
    stopped: list[int] = []
    try:
        while new := [each for each in family(pid) if each not in stopped]:
            for each in new:
                stopped.append(each)
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGSTOP)
        yield
    finally:
        for each in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)
