"""One live session on its holder: the process's pipes, its journal and the decisions about it, held together.

No greenlet of its own: the loop's callbacks, the keeper's reports, the mailbox and the clock call in; what must wait for a
server (marking, finishing) is handed to the host as a chore. Decisions are `runner.supervision`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core import metrics
from models.inputs import ORDERED, Delivery, Kind, Mail, State
from models.lifecycle import Reason
from runner import supervision
from runner.plumbing import Ears, Plumbing
from runner.supervision import Phase, Stop, Supervision
from streams.entries import EntryKind, timestamp_ms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from models.events import Origin
    from models.lifecycle import Status
    from runner.programs.driver import Driver
    from runner.surroundings import Surroundings
    from streams.journal import Journal

MAX_WAITING_BYTES = 1024 * 1024
"""Input that the program has not read yet: above this the mailbox keeps the rest."""
ROWS_A_LOOK = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """Which session this is, under which right. `tag` marks its processes."""

    session_id: UUID
    fence: int
    tag: int
    origin: Origin
    priority: str = "normal"


class LiveSession:
    """A claimed session until its end is written."""

    driver: Driver
    """Knows its program. Set right after it is made."""

    def __init__(
        self, identity: Identity, rules: supervision.Rules, journal: Journal, surroundings: Surroundings
    ) -> None:
        self.identity = identity
        self.id = identity.session_id
        self.journal = journal
        self.decisions = Supervision(rules)
        self.after_ordered = 0
        self.after_urgent = 0
        self.plumbing: Plumbing | None = None
        self.pid: int | None = None
        self.abandoned = False
        """Fenced: everything is killed, nothing is written any more."""
        self._letters: dict[int, Mail] = {}
        self._early: list[Mail] = []
        self._starved = False
        self._holds = 0
        self.host = surroundings

    # What the process does.

    def ears(self) -> Ears:
        """Return the callbacks for this session's pipes."""
        return Ears(self._printed, self._drained, self._written, self._refused)

    def started(self, plumbing: Plumbing, pid: int) -> None:
        """The process runs and its pipes are listened to."""
        self.plumbing = plumbing
        self.pid = pid
        self.write(EntryKind.STATUS, {"status": "active"})
        now = self.host.clock.now()
        self.driver.started(now)
        self._act(self.decisions.started(now))
        early, self._early = self._early, []
        for mail in early:
            self._at_once(mail)

    def spawn_failed(self, error: str) -> None:
        """There is no process."""
        self._act(self.decisions.spawn_failed(error))

    def _printed(self, stream: str, chunk: bytes) -> None:
        self.driver.printed(stream, chunk, self.host.clock.now())
        if not self.host.has_room(self.id) and self.plumbing is not None:
            self.plumbing.pause()

    def put_out(self, stream: str, chunk: bytes) -> None:
        """Write output into the log."""
        self.journal.write_output(stream, chunk, timestamp_ms(self.host.clock.at()))
        metrics.OUTPUT_BYTES.inc(len(chunk))
        self.host.news(self)
        self._act(self.decisions.printed(self.journal.offset, self.host.clock.now()))

    def room(self) -> None:
        """What was printed is saved: read on."""
        if self.plumbing is not None:
            self.plumbing.resume()

    def _drained(self) -> None:
        self.driver.drained()
        self._act(self.decisions.drained())

    def exited(self, how: supervision.Exit) -> None:
        """The keeper reaped the main process."""
        self._act(self.decisions.exited(how, self.host.clock.now()))

    def emptied(self) -> None:
        """The keeper says that nothing of the session lives."""
        if self.plumbing is not None and self.plumbing.terminal is not None:
            self.plumbing.terminal.hang_up()
        self._act(self.decisions.emptied(self.host.clock.now()))

    def keeper_lost(self) -> None:
        """The keeper died; whatever it kept is swept."""
        self._act(self.decisions.keeper_lost())

    # What others want.

    def stop(self, wish: Stop) -> None:
        """Somebody wants the session gone."""
        self._act(self.decisions.stop(wish, self.host.clock.now()))

    def exceeded(self, limit: Stop) -> None:
        """It has overrun a limit."""
        self._act(self.decisions.exceeded(limit, self.host.clock.now()))

    def hurry(self) -> None:
        """The grace is over for everybody: the worker must leave."""
        self._act(self.decisions.hurry(self.host.clock.now()))

    def tick(self) -> None:
        """Time passed. The beginning of a character whose rest did not come in 100 ms goes out as it is."""
        if self.journal.held_bytes and self._holds == self.journal.holds:
            self.journal.flush_held()
            self.host.news(self)
        self._holds = self.journal.holds
        now = self.host.clock.now()
        if self.plumbing is not None and self.plumbing.paused:  # it may print; we do not listen
            self.decisions.stirred(now)
        self.driver.tick(now)
        self._act(self.decisions.tick(now))

    @property
    def is_running(self) -> bool:
        """Whether its process runs, and nobody wants it gone."""
        return self.decisions.phase is Phase.RUNNING and not self.abandoned

    def look_due(self, now: float) -> bool:
        """Whether it is worth looking at what the process does."""
        return self.is_running and self.driver.look_due(now)

    def look(self, now: float) -> None:
        """Look at what the process does."""
        self.driver.look(now)

    def show(self, status: Status) -> None:
        """Say what it has come to."""
        if self.is_running:
            self.write(EntryKind.STATUS, {"status": str(status)})
            self.host.status_changed(self, status)

    def receive(self, mail: Mail) -> None:
        """Carry out one row of the mailbox. Rows come in order; the numbers seen are never taken twice."""
        if mail.kind in ORDERED:
            self.after_ordered = mail.input_seq
            self._to_stdin(mail)
            return
        self.after_urgent = mail.input_seq
        if self.plumbing is None and mail.kind in (Kind.SIGNAL, Kind.INTERRUPT, Kind.ANSWER):
            self._early.append(mail)
        else:
            self._at_once(mail)

    def room_for_input(self) -> int:
        """How many rows the mailbox may hand over now."""
        self._starved = self.plumbing is None or self.plumbing.waiting_bytes > MAX_WAITING_BYTES
        return 0 if self._starved else ROWS_A_LOOK

    def _to_stdin(self, mail: Mail) -> None:
        assert self.plumbing is not None  # no rows are asked for before the start
        if mail.kind is Kind.RESIZE and self.plumbing.terminal is None:
            self.tell(mail.input_seq, State.FAILED, "no_terminal")
            return
        self._letters[mail.input_seq] = mail
        self.plumbing.write(self.driver.letter(mail))

    def _at_once(self, mail: Mail) -> None:
        match mail.kind:
            case Kind.STOP:
                self.stop(Stop(Reason.REQUESTED, mail.detail.get("reason")))
            case Kind.SIGNAL:
                self.decisions.told(int(mail.detail["number"]))
                self._signal(int(mail.detail["number"]))
            case Kind.INTERRUPT:
                self.driver.interrupt()
            case Kind.EXTEND:
                self.decisions.extend(float(mail.detail["seconds"]), self.host.clock.now())
            case Kind.ANSWER:
                self._answer(mail)
                return
            case _:  # a newer web tier's
                self.tell(mail.input_seq, State.FAILED, "unknown_kind")
                return
        self.tell(mail.input_seq, State.WRITTEN)

    def _signal(self, number: int) -> None:
        """Signal whom a person would reach: the foreground of a terminal, else the main process's group."""
        terminal = self.plumbing.terminal if self.plumbing else None
        self.host.signal(self.identity.tag, number, group=terminal.foreground() if terminal else None)

    def _answer(self, mail: Mail) -> None:
        self._letters[mail.input_seq] = mail
        refused = self.driver.answer(mail)
        if refused is not None:
            self._letters.pop(mail.input_seq, None)
            self.tell(mail.input_seq, *refused)

    def _written(self, input_seq: int) -> None:
        mail = self._letters.pop(input_seq)
        now = self.host.clock.now()
        self.decisions.stirred(now)
        if mail.kind in (Kind.INPUT, Kind.EOF):
            self.write(EntryKind.INPUT, {"input_id": str(mail.input_id), "input_seq": input_seq})
        self.tell(input_seq, State.WRITTEN)
        self.driver.written(mail, now)
        if self._starved and self.plumbing is not None and self.plumbing.waiting_bytes <= MAX_WAITING_BYTES // 2:
            self._starved = False
            self.host.look([self.id])

    def _refused(self, input_seq: int, reason: str) -> None:
        self._letters.pop(input_seq, None)
        self.tell(input_seq, State.FAILED, reason)

    def tell(self, input_seq: int, state: State, reason: str | None = None) -> None:
        """Report what became of a row."""
        at = self.host.clock.at()
        self.host.delivered(Delivery(self.id, input_seq, state, at, reason, self.journal.offset))

    # Carrying out decisions.

    def _act(self, actions: Sequence[supervision.Action]) -> None:
        for action in actions:
            if self.abandoned:
                return
            self._carry_out(action)

    def _carry_out(self, action: supervision.Action) -> None:
        match action:
            case supervision.Signal(number):
                self.host.signal_all(self.identity.tag, number)
            case supervision.AskToLeave():
                self.driver.leave(self.host.clock.now())
            case supervision.EndAll():
                if self.decisions.killing:
                    metrics.SESSIONS_KILLED.inc()
                self.host.end_all(self.identity.tag)
            case supervision.ReplaceKeeper():
                self.host.replace_keeper()
            case supervision.MarkStopping(stop):
                self.write(EntryKind.STATUS, {"status": "terminating", "reason": str(stop.reason)})
                self.host.affairs.stopping(self, stop)
            case supervision.Finish():
                self.host.finish(self, action)

    def write(self, kind: EntryKind, fields: dict[str, object], data: bytes = b"") -> None:
        """Write an entry that is no output. `data`: what it was made from, if that is to be kept."""
        self.journal.write(kind, fields, timestamp_ms(self.host.clock.at()), data)
        self.host.news(self)

    def close(self) -> None:
        """Let go of the pipes."""
        if self.plumbing is not None:
            self.plumbing.close()
