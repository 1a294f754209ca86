"""What a live session asks of whoever knows its program: what the program's output means, and how it is spoken to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from models.inputs import Mail, State
    from runner.plumbing import Letter

REASON_UNKNOWN = "unknown_kind"


class Driver(Protocol):
    """Nothing here may block: all of it is called from the hub. `now` is monotonic seconds."""

    def started(self, now: float) -> None:
        """The process runs; its plumbing is there."""

    def printed(self, stream: str, chunk: bytes, now: float) -> None:
        """It printed something."""

    def drained(self) -> None:
        """Its output was read to the end."""

    def letter(self, mail: Mail) -> Letter:
        """Return an input, in the program's words."""

    def written(self, mail: Mail, now: float) -> None:
        """An input was written to it."""

    def interrupt(self) -> None:
        """Make it leave off what it does."""

    def answer(self, mail: Mail) -> tuple[State, str] | None:
        """Bring it a decision; return what becomes of the row, or None if it is on its way."""

    def leave(self, now: float) -> None:
        """Ask it to leave, in its own words: before any signal."""

    def tick(self, now: float) -> None:
        """Time passed."""

    def look_due(self, now: float) -> bool:
        """Whether it is worth looking at what the process does."""

    def look(self, now: float) -> None:
        """Look at it."""
