"""What a session may become: THE transition table. Plain Python: no database, no process, no clock.

A session is *live* while a process exists or may yet exist for it, *final* once its end is written. The path is

    initializing -> active <-> idle / waiting_input -> terminating -> completed | terminated | failed

Theory, in four sentences. A status says what is true of the process, so only the one who knows moves it: the holder
for a session that is claimed, the web tier or housekeeping for one that nobody holds. Whoever wants a session gone
asks (STOP_REQUESTED) and does not decide how it ended. Once a stop was asked for, an exit is its success whatever
its code: `terminated`, unless a limit was the cause. A final status has no way out; asking again is an error here,
and the callers decide beforehand that stopping an ended session is nothing to do.

The diagram in docs/architecture.md is generated from this table (`python -m models.lifecycle`).
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from core.errors import TransitionRefused

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(StrEnum):
    """What is true of a session's process."""

    INITIALIZING = "initializing"
    ACTIVE = "active"
    IDLE = "idle"
    WAITING_INPUT = "waiting_input"
    TERMINATING = "terminating"
    COMPLETED = "completed"
    TERMINATED = "terminated"
    FAILED = "failed"


class Trigger(StrEnum):
    """What happened, seen by the one who may say so."""

    STARTED = "started"
    """The process runs."""
    STIRRED = "stirred"
    """It printed, or was given input."""
    WENT_QUIET = "went_quiet"
    """No output for SESSION_IDLE_AFTER_SECONDS."""
    AWAITS_INPUT = "awaits_input"
    """It reads and there is nothing to read."""
    STOP_REQUESTED = "stop_requested"
    """Somebody, or a limit, wants it gone."""
    RESTARTED = "restarted"
    """Its holder was lost and the program can resume elsewhere."""
    SUCCEEDED = "succeeded"
    """Exited 0 by itself."""
    BROKE = "broke"
    """Exited otherwise by itself, or could not be spawned."""
    STOPPED = "stopped"
    """Is gone because somebody, or its time, asked for it."""
    EXCEEDED = "exceeded"
    """Is gone because it overran a limit."""
    LOST = "lost"
    """Is gone together with whoever held it."""


class Reason(StrEnum):
    """Why a session ended; part of the HTTP contract."""

    EXITED = "exited"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    SPAWN_FAILED = "spawn_failed"
    REQUESTED = "requested"
    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"
    OUTPUT_LIMIT = "output_limit"
    PROCESS_LIMIT = "process_limit"
    UNRESPONSIVE = "unresponsive"
    REVOKED = "revoked"
    WORKER_SHUTDOWN = "worker_shutdown"
    WORKER_LOST = "worker_lost"
    KEEPER_LOST = "keeper_lost"
    CLAIM_LOST = "claim_lost"
    NEVER_STARTED = "never_started"


def _running(**more: Status) -> dict[Trigger, Status]:
    """The moves that every status with a running process shares."""
    return {
        Trigger.STIRRED: Status.ACTIVE,
        Trigger.WENT_QUIET: Status.IDLE,
        Trigger.AWAITS_INPUT: Status.WAITING_INPUT,
        Trigger.STOP_REQUESTED: Status.TERMINATING,
        Trigger.RESTARTED: Status.INITIALIZING,
        Trigger.SUCCEEDED: Status.COMPLETED,
        Trigger.BROKE: Status.FAILED,
        Trigger.STOPPED: Status.TERMINATED,
        Trigger.EXCEEDED: Status.FAILED,
        Trigger.LOST: Status.FAILED,
        **{Trigger(name): status for name, status in more.items()},
    }


TRANSITIONS: Final[Mapping[Status, Mapping[Trigger, Status]]] = MappingProxyType(
    {
        Status.INITIALIZING: {
            Trigger.STARTED: Status.ACTIVE,
            Trigger.STOP_REQUESTED: Status.TERMINATING,
            Trigger.RESTARTED: Status.INITIALIZING,
            Trigger.BROKE: Status.FAILED,
            # Stopped while it waited for a slot: there was never a process.
            Trigger.STOPPED: Status.TERMINATED,
            Trigger.LOST: Status.FAILED,
        },
        Status.ACTIVE: _running(),
        Status.IDLE: _running(),
        # Waiting for input wins over idle: a prompt that nobody answers stays a prompt.
        Status.WAITING_INPUT: _running(went_quiet=Status.WAITING_INPUT),
        Status.TERMINATING: {
            # The stop was asked for between the claim and the start.
            Trigger.STARTED: Status.TERMINATING,
            # Last words are printed while it goes.
            Trigger.STIRRED: Status.TERMINATING,
            Trigger.WENT_QUIET: Status.TERMINATING,
            Trigger.AWAITS_INPUT: Status.TERMINATING,
            # A second request to stop is not an error: clients retry.
            Trigger.STOP_REQUESTED: Status.TERMINATING,
            Trigger.SUCCEEDED: Status.TERMINATED,
            Trigger.BROKE: Status.TERMINATED,
            Trigger.STOPPED: Status.TERMINATED,
            Trigger.EXCEEDED: Status.FAILED,
            Trigger.LOST: Status.TERMINATED,
        },
        Status.COMPLETED: {},
        Status.TERMINATED: {},
        Status.FAILED: {},
    }
)

FINAL: Final = frozenset(status for status, ways in TRANSITIONS.items() if not ways)
LIVE: Final = frozenset(TRANSITIONS) - FINAL
RUNNING: Final = frozenset({Status.ACTIVE, Status.IDLE, Status.WAITING_INPUT})

ENDED_BY: Final[Mapping[Reason, Trigger]] = MappingProxyType(
    {
        Reason.EXITED: Trigger.SUCCEEDED,
        Reason.EXIT_CODE: Trigger.BROKE,
        Reason.SIGNAL: Trigger.BROKE,
        Reason.SPAWN_FAILED: Trigger.BROKE,
        Reason.REQUESTED: Trigger.STOPPED,
        Reason.TIMEOUT: Trigger.STOPPED,
        Reason.IDLE_TIMEOUT: Trigger.STOPPED,
        Reason.REVOKED: Trigger.STOPPED,
        Reason.WORKER_SHUTDOWN: Trigger.STOPPED,
        Reason.NEVER_STARTED: Trigger.STOPPED,
        Reason.OUTPUT_LIMIT: Trigger.EXCEEDED,
        Reason.PROCESS_LIMIT: Trigger.EXCEEDED,
        Reason.UNRESPONSIVE: Trigger.EXCEEDED,
        Reason.WORKER_LOST: Trigger.LOST,
        Reason.KEEPER_LOST: Trigger.LOST,
        Reason.CLAIM_LOST: Trigger.LOST,
    }
)


def after(status: Status, trigger: Trigger) -> Status:
    """Return the status that follows, or raise TransitionRefused."""
    try:
        return TRANSITIONS[status][trigger]
    except KeyError:
        raise TransitionRefused(status, trigger) from None


def diagram() -> str:
    """Draw the table as a Mermaid state diagram, one arrow for all triggers between the same two statuses."""
    arrows: dict[tuple[Status, Status], list[str]] = {}
    for status, ways in TRANSITIONS.items():
        for trigger, following in ways.items():
            if following != status:
                arrows.setdefault((status, following), []).append(trigger)
    lines = ["stateDiagram-v2", f"    [*] --> {Status.INITIALIZING}"]
    lines += [f"    {start} --> {end}: {', '.join(sorted(triggers))}" for (start, end), triggers in arrows.items()]
    lines += [f"    {status} --> [*]" for status in TRANSITIONS if status in FINAL]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
