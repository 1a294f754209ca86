"""What follows from what Claude Code says: one small value each. `dialogue` makes them; whoever holds the session acts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Doing(StrEnum):
    """The program's own word for what it does."""

    RUNNING = "running"
    REQUIRES_ACTION = "requires_action"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Printed:
    """Text for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A message for programs: the fields of an `agent` entry, and the line they were read from."""

    fields: Mapping[str, Any]
    line: bytes = b""


@dataclass(frozen=True, slots=True)
class Ready:
    """It has answered that it listens."""

    version: str | None


@dataclass(frozen=True, slots=True)
class Became:
    """It does something else now."""

    doing: Doing


@dataclass(frozen=True, slots=True)
class Asked:
    """It wants a decision, and waits for it. `input` may be a password's place: it goes to readers and nowhere else."""

    request_id: str
    kind: str
    tool: str
    input: Mapping[str, Any] = field(repr=False)
    description: str | None
    suggestions: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """It wants no decision any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far a user's message of ours has come: queued, started, completed, cancelled."""

    message_id: str
    state: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn is over. `cost_usd`: of all turns of this conversation, those before this process too."""

    subtype: str
    is_error: bool
    text: str | None
    message_ids: Sequence[str]
    usage: Mapping[str, Any]
    cost_usd: float | None
    turns: int
    terminal_reason: str | None = None

    @property
    def was_interrupted(self) -> bool:
        """Whether it was cut off."""
        if self.terminal_reason is None:  # older ones do not say
            return self.subtype == "error_during_execution"
        return self.terminal_reason.startswith("aborted")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Which conversation this is now: it may change while it runs, and only this one can be gone on with."""

    conversation_id: str
    model: str | None


Said = Printed | Told | Ready | Became | Asked | Withdrawn | Delivered | TurnEnded | Conversation
