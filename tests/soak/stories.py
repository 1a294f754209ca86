"""What is gathered of a session: how it was to go, what its readers got, what is kept of it, and what its program wrote down.

A program's own record is the measure: `said` is all it set out to print, of which write() had taken the first `done` bytes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

FINAL: Final = frozenset({"completed", "terminated", "failed"})
LOST: Final = frozenset({"worker_lost", "keeper_lost", "claim_lost"})
"""Reasons that say a session was ended because its worker, its keeper or the reply to its claim was lost."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process of a session wrote down of itself."""

    said: bytes
    done: int
    heard: tuple[str, ...] = ()
    eof: bool = False
    alone: bool = True
    """No other process of the session ran when this one began."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One input as its sender knows it: `accepted` (with its number), `refused`, or `maybe` if the answer never came."""

    text: str
    outcome: str
    input_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One input as the service keeps it."""

    input_seq: int
    kind: str
    text: str
    state: str


@dataclass
class Seen:
    """What one reader made of a stream, over all its connections."""

    name: str
    content: bytearray = field(default_factory=bytearray)
    last_id: int = 0
    restarts: list[int] = field(default_factory=list)
    """How much output there was at each `restarted`."""
    gaps: list[str] = field(default_factory=list)
    """Reasons of the gaps it was told of."""
    connections: int = 0
    faults: list[str] = field(default_factory=list)
    end: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Glance:
    """Output fetched while the session ran."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to whom, and between which seconds of the wall clock."""

    what: str
    whom: str
    began: float
    ended: float


@dataclass
class Story:
    """All that is known of one session."""

    token: str
    plan: str
    """How it was to end; see ENDS."""
    resumable: bool = False
    """Whether it may begin again when its worker is lost."""
    created: str = "maybe"
    """`accepted`, `refused` or `maybe`, as for inputs."""
    deleted: bool = False
    """Somebody asked for its end by DELETE."""
    session_ids: list[str] = field(default_factory=list)
    """Every session there is of this token: one, or none."""
    shown: dict[str, Any] | None = None
    output: bytes = b""
    runs: list[Run] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    readers: list[Seen] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)

    @property
    def name(self) -> str:
        how = f"{'/'.join(self.how)} on {self.shown['worker']}" if self.shown else "not created"
        return f"{self.token} ({self.plan}: {how}, {', '.join(self.session_ids) or 'no session'})"

    @property
    def how(self) -> tuple[str, str]:
        """(status, reason)."""
        return (self.shown["status"], str(self.shown["reason"])) if self.shown else ("", "")

    @property
    def is_lost(self) -> bool:
        """Whether nobody saw how its process ended. One that was to end anyway keeps the reason it was to end for."""
        if self.shown is None:
            return False
        unseen = (self.shown["exit_code"], self.shown["exit_signal"]) == (None, None)
        return self.how[1] in LOST or (unseen and bool(self.runs))

    @property
    def attempts(self) -> int:
        return int(self.shown["attempt"]) if self.shown else 1

    @property
    def pieces(self) -> list[bytes]:
        """The output of each attempt."""
        restarts = next((seen.restarts for seen in reversed(self.readers)), [])
        bounds = [0, *restarts, len(self.output)]
        return [self.output[begin:end] for begin, end in itertools.pairwise(bounds)]
