"""What to do about a session's process, decided without touching it.

The shell around it (`runner.live`) says what happened - it started, it exited, somebody wants it gone, time passed - and
carries out the actions that come back. No I/O, no clock of its own: `now` is monotonic seconds, given by the caller.

    STARTING -> RUNNING -> (STOPPING) -> SWEEPING -> DRAINING -> (LINGERING) -> OVER

A process is *over* when its main process was reaped, the keeper says that nothing it left behind lives, and its output was
read to the end. When the main process exits, what it left behind is killed at once, as in a container: a background
process that holds stdout must not keep a session alive. After the sweep nobody of ours can write; whoever else holds the
pipe (a descriptor passed to a stranger) gets `drain_seconds`, no more.

Platforms tell every process of a machine to leave, in any order: a program that dies of a SIGTERM nobody here sent may be the
first sign of the worker's own end. That is waited for, LINGER_SECONDS: what it is called depends on it.

Longer than other modules: one state machine, with every way through it in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from signal import SIGCONT, SIGTERM
from typing import Final

from models.lifecycle import Reason

SWEEP_LIMIT_SECONDS: Final = 15.0
"""A keeper that does not say "empty" that long after it was told to kill everything is stuck."""


BY_SIGTERM: Final = 128 + SIGTERM
"""How a program exits that catches a SIGTERM and goes."""

LINGER_SECONDS: Final = 1.0
"""How long after such a death the worker may be told as well."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one session, in seconds and bytes. None: no such limit."""

    grace_seconds: float
    run_seconds: float | None
    drain_seconds: float
    max_output_bytes: int | None
    idle_seconds: float | None = None
    """How long it may neither print nor be given input."""
    stop_signals: tuple[int, ...] = (SIGTERM,)
    """What asks it to leave."""
    ask_seconds: float | None = None
    """How long a program that is asked in its own words may take before it is sent signals. None: it has no words for that."""
    hands_over: bool = False
    """Whether it goes on elsewhere when its worker leaves: then nobody is told that it is being stopped."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a main process ended: a code, or the name of a signal without SIG; both None if nobody saw it."""

    code: int | None
    signal: str | None


@dataclass(frozen=True, slots=True)
class Stop:
    """A wish that the session end. `detail` in words, for people."""

    reason: Reason
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class MarkStopping:
    """Make it known that the session is being stopped, and why."""

    stop: Stop


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to every process of the session."""

    number: int


@dataclass(frozen=True, slots=True)
class AskToLeave:
    """Ask the program to leave, in its own words."""


@dataclass(frozen=True, slots=True)
class EndAll:
    """Have the keeper kill all that is left of the session, and say when nothing is."""


@dataclass(frozen=True, slots=True)
class ReplaceKeeper:
    """The keeper does not do its work: end it; its death ends the rest."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Write the end."""

    reason: Reason
    detail: str | None
    exit: Exit
    error: str | None = None


Action = MarkStopping | AskToLeave | Signal | EndAll | ReplaceKeeper | Finish


class Phase(Enum):
    """Where a process is between its start and its end."""

    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()
    SWEEPING = auto()
    DRAINING = auto()
    LINGERING = auto()
    OVER = auto()


class Supervision:
    """The state of one process and the decisions about it."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.phase = Phase.STARTING
        self.deadline: float | None = None
        """When the next tick has something to do; None: never, until something happens."""
        self._stop: Stop | None = None
        self._stirred_at = 0.0
        self._run_seconds = rules.run_seconds
        self._exit = Exit(None, None)
        self._exited_at = 0.0
        self._told_to_leave = False
        self._listening = False
        """Whether its pipes are read: before that nothing it printed is known, and no time runs out."""
        self._drained = False
        self._killing = False
        self._asked = False
        """Whether it was asked to leave in its own words, and sent no signal yet."""
        self._fine = {0}

    @property
    def over(self) -> bool:
        """Whether its end is decided: only writing it is left."""
        return self.phase is Phase.OVER

    @property
    def killing(self) -> bool:
        """Whether its grace is over, or it was given none."""
        return self._killing

    def started(self, now: float) -> list[Action]:
        """The process runs, or has run: its exit may be told before its start. A stop that came before takes effect now."""
        self._listening = True
        if self.phase is Phase.OVER:
            return []
        if self.phase is not Phase.STARTING:
            self.deadline = now + (self.rules.drain_seconds if self.phase is Phase.DRAINING else SWEEP_LIMIT_SECONDS)
            return []
        self.phase = Phase.RUNNING
        self._stirred_at = now
        if self._run_seconds is not None:
            self.deadline = now + self._run_seconds
        return self._begin_stop(now) if self._stop else []

    def spawn_failed(self, error: str) -> list[Action]:
        """There is no process and there never was."""
        if self.phase is Phase.OVER:  # the keeper was lost, and with it the spawn
            return []
        self.phase = Phase.OVER
        stop = self._stop or Stop(Reason.SPAWN_FAILED)
        return [Finish(stop.reason, stop.detail, self._exit, error)]

    def stop(self, wish: Stop, now: float) -> list[Action]:
        """Somebody wants it gone. The first wish stands; a second one changes nothing."""
        if self._stop is not None or self.phase is Phase.OVER:
            return []
        if self.phase in (Phase.SWEEPING, Phase.DRAINING, Phase.LINGERING):
            return self._explain(wish)
        self._stop = wish
        return self._begin_stop(now) if self.phase is Phase.RUNNING else []

    def _explain(self, wish: Stop) -> list[Action]:
        """It has exited already. Only the worker's own end may be why."""
        if wish.reason is not Reason.WORKER_SHUTDOWN or not self._died_of_a_stranger:
            return []
        self._stop = wish
        marks = [] if self._is_handed_over else [MarkStopping(wish)]
        return [*marks, *(self._finish() if self.phase is Phase.LINGERING else [])]

    @property
    def _died_of_a_stranger(self) -> bool:
        """Whether it died of a SIGTERM that nobody here sent."""
        died = self._exit.signal == "TERM" or (self.rules.hands_over and self._exit.code == BY_SIGTERM)
        return died and self._stop is None and not self._told_to_leave

    def told(self, number: int) -> None:
        """A client had a signal sent to it."""
        self._told_to_leave = self._told_to_leave or number == SIGTERM

    def _begin_stop(self, now: float) -> list[Action]:
        assert self._stop is not None
        self.phase = Phase.STOPPING
        marks = [] if self._is_handed_over else [MarkStopping(self._stop)]
        if self.rules.ask_seconds is None:
            return [*marks, *self._send_signals(now)]
        self._asked = True
        self.deadline = now + self.rules.ask_seconds
        return [*marks, AskToLeave()]

    def _send_signals(self, now: float) -> list[Action]:
        self._asked = False
        self.deadline = now + self.rules.grace_seconds
        # What is stopped (SIGSTOP, ^Z) hears nothing else before it is continued.
        return [*map(Signal, (*self.rules.stop_signals, SIGCONT))]

    @property
    def _is_handed_over(self) -> bool:
        return self.rules.hands_over and self._stop is not None and self._stop.reason is Reason.WORKER_SHUTDOWN

    def input_ended(self, fine: set[int]) -> None:
        """Its input was ended: codes with which it may exit then without having failed."""
        self._fine = {0, *fine}

    def stirred(self, now: float) -> None:
        """It was given input, or may have printed: the worker does not read its output just now."""
        self._stirred_at = now

    def printed(self, output_bytes: int, now: float) -> list[Action]:
        """It has printed `output_bytes` in all."""
        self._stirred_at = now
        limit = self.rules.max_output_bytes
        if limit is None or output_bytes <= limit or self._stop is not None or self.phase is not Phase.RUNNING:
            return []
        return self.exceeded(Stop(Reason.OUTPUT_LIMIT, f"printed more than {limit} bytes"), now)

    def exceeded(self, limit: Stop, now: float) -> list[Action]:
        """It has overrun a limit. There is no grace: what floods, or multiplies, would go on meanwhile."""
        if self.phase not in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING) or self._killing:
            return []
        marks = [] if self._stop else [MarkStopping(limit)]
        self._stop = self._stop or limit
        self.phase = Phase.STOPPING
        self._killing = True
        self.deadline = now + SWEEP_LIMIT_SECONDS
        return [*marks, EndAll()]

    def exited(self, how: Exit, now: float) -> list[Action]:
        """The main process was reaped. What it left behind goes too."""
        if self.phase in (Phase.SWEEPING, Phase.DRAINING, Phase.LINGERING, Phase.OVER):
            return []
        self._exit = how
        self._exited_at = now
        self.phase = Phase.SWEEPING
        self.deadline = now + SWEEP_LIMIT_SECONDS
        return [EndAll()]

    def emptied(self, now: float) -> list[Action]:
        """The keeper says that nothing of the session lives."""
        if self.phase is not Phase.SWEEPING:
            return []
        self.phase = Phase.DRAINING
        self.deadline = now + self.rules.drain_seconds
        return self._conclude() if self._drained else []

    def drained(self) -> list[Action]:
        """Its output was read to the end."""
        self._drained = True
        return self._conclude() if self.phase is Phase.DRAINING else []

    def _conclude(self) -> list[Action]:
        """Nothing of it is left. Write the end, or wait a moment to learn what it was."""
        if not self._died_of_a_stranger:
            return self._finish()
        self.phase = Phase.LINGERING
        self.deadline = self._exited_at + LINGER_SECONDS
        return []

    def keeper_lost(self) -> list[Action]:
        """The keeper is gone; the worker has swept everything. How the process ended nobody saw."""
        if self.phase is Phase.OVER:
            return []
        if self._stop is None and self._exit == Exit(None, None):
            self._stop = Stop(Reason.KEEPER_LOST)
            return self._finish("its keeper is gone: it died, or the worker could not renew its lease")
        return self._finish()

    def tick(self, now: float) -> list[Action]:
        """Time passed."""
        if self.phase is Phase.RUNNING and self._was_idle_too_long(now):
            return self.stop(Stop(Reason.IDLE_TIMEOUT, f"was idle for {self.rules.idle_seconds:g} s"), now)
        if self.deadline is None or now < self.deadline or not self._listening:
            return []
        if self.phase is Phase.RUNNING:
            return self.stop(Stop(Reason.TIMEOUT, f"its time of {self._run_seconds:g} s was up"), now)
        if self.phase is Phase.DRAINING:
            return self._conclude()
        if self.phase is Phase.LINGERING:
            return self._finish()
        if self._asked and self.phase is Phase.STOPPING and not self._killing:
            return self._send_signals(now)
        self.deadline = now + SWEEP_LIMIT_SECONDS
        if self.phase is Phase.STOPPING and not self._killing:
            self._killing = True
            return [EndAll()]
        return [ReplaceKeeper()]

    def hurry(self, now: float) -> list[Action]:
        """There is no time for the grace: a stop that is under way becomes a kill."""
        if self.phase is not Phase.STOPPING or self._killing:
            return []
        self._asked = False
        self.deadline = now
        return self.tick(now)

    def _was_idle_too_long(self, now: float) -> bool:
        idle = self.rules.idle_seconds
        return idle is not None and now - self._stirred_at >= idle

    def extend(self, run_seconds: float, now: float) -> None:
        """Let it run that long, counted from now; from its start, if it has not started yet."""
        self._run_seconds = run_seconds
        if self.phase is Phase.RUNNING:
            self.deadline = now + run_seconds

    def _finish(self, error: str | None = None) -> list[Action]:
        self.phase = Phase.OVER
        self.deadline = None
        stop = self._stop or Stop(self._reason())
        return [Finish(stop.reason, stop.detail, self._exit, error)]

    def _reason(self) -> Reason:
        if self._exit.signal is not None:
            return Reason.SIGNAL
        return Reason.EXITED if self._exit.code in self._fine else Reason.EXIT_CODE
