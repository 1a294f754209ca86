"""A live session of Claude Code: what follows from what the program says, and what it is told.

Each input has an id that the program knows it by, so one is never taken twice, whoever sends it again. What a holder after this
one must know stands in the session's row (`Memory`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from core import metrics
from models.inputs import Kind, State
from models.lifecycle import Reason, Status
from runner.plumbing import Letter
from runner.programs.claude_code import messages
from runner.programs.claude_code.dialogue import INITIALIZE, Dialogue
from runner.programs.claude_code.memory import query_id
from runner.programs.claude_code.requests import Requests
from runner.programs.claude_code.said import (
    Asked,
    Became,
    Conversation,
    Delivered,
    Doing,
    Printed,
    Ready,
    Told,
    TurnEnded,
    Withdrawn,
)
from runner.supervision import Stop
from streams.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.inputs import Mail
    from runner.live import LiveSession
    from runner.programs.claude_code.memory import Memory
    from runner.programs.claude_code.said import Said
    from runner.programs.claude_code.starting import Plan

STATUSES: Final = {
    Doing.RUNNING: Status.ACTIVE,
    Doing.REQUIRES_ACTION: Status.WAITING_INPUT,
    Doing.IDLE: Status.IDLE,
}
AFTER_EOF: Final = {1}
"""How it exits at the end of its input if its last turn was an error, an interrupt even: nobody's failure."""
LAST_WORD_SECONDS: Final = 30.0
"""How long after an interrupt a silent program may go on being silent."""


class Driver:
    """Speaks with one process."""

    def __init__(self, live: LiveSession, plan: Plan, memory: Memory) -> None:
        self._live = live
        self._plan = plan
        self._memory = memory
        self._dialogue = Dialogue()
        self._requests = Requests(live, plan.request_timeout_seconds)
        self._doing = Doing.RUNNING  # as every session is taken to do when it starts
        self._ready = False
        self._heard_at = 0.0
        self._nudged = False
        self._leaving = False
        self._query = str(query_id(live.id))
        self._sent: dict[str, int | None] = {}
        """Numbers of rows by the ids of messages that were sent and not answered; None: the session's first words."""
        self._begun: set[str] = set()

    # What is said to it.

    def started(self, now: float) -> None:
        """Ask whether it listens, and say the first words, unless they were answered in a former life."""
        self._heard_at = now
        self._say(messages.control(INITIALIZE, "initialize", hooks=None))
        if self._memory.query is None:
            self._sent[self._query] = None
            self._say(messages.user(self._plan.query, query_id(self._live.id)))

    def letter(self, mail: Mail) -> Letter:
        """Return an input as a message under its own id."""
        if mail.kind is Kind.EOF:
            self._live.decisions.input_ended(AFTER_EOF)
            return Letter(mail.input_seq, eof=True)
        self._sent[str(mail.input_id)] = mail.input_seq
        line = messages.user(mail.body.decode(), mail.input_id, mail.detail.get("mode", "queue"))
        return Letter(mail.input_seq, line)

    def written(self, mail: Mail, now: float) -> None:  # noqa: ARG002  (it says itself what it does)
        """Silence is counted from here."""
        self._heard_at = now

    def interrupt(self) -> None:
        """Have it leave off what it does."""
        self._say(messages.control(f"jelmore-{uuid4()}", "interrupt"))

    def answer(self, mail: Mail) -> tuple[State, str] | None:
        """Bring it a decision, if it still waits for that."""
        line = self._requests.decided(mail.detail, mail.actor)
        if line is None:
            return State.FAILED, "withdrawn"
        self._write(Letter(mail.input_seq, line))
        return None

    def leave(self, now: float) -> None:  # noqa: ARG002
        """Have it leave off, then end its session: its last words are written down so."""
        self._leaving = True
        if self._doing in (Doing.RUNNING, Doing.REQUIRES_ACTION):
            self.interrupt()
        else:
            self._end_session()

    def _end_session(self) -> None:
        self._say(messages.control(f"jelmore-{uuid4()}", "end_session"))

    def _say(self, line: bytes) -> None:
        self._write(Letter(None, line))

    def _write(self, letter: Letter) -> None:
        if self._live.plumbing is not None:
            self._live.plumbing.write(letter)

    # What it says.

    def printed(self, stream: str, chunk: bytes, now: float) -> None:
        """Act on its lines; what it writes to stderr is for people."""
        self._heard_at = now
        self._nudged = False
        self._live.decisions.stirred(now)
        if stream == "stdout":
            self._act(self._dialogue.take(chunk))
        else:
            self._live.put_out(stream, chunk)

    def drained(self) -> None:
        """Act on a last line without an end."""
        self._act(self._dialogue.end())

    def _act(self, said: Iterable[Said]) -> None:
        for each in said:
            self._act_on(each)

    def _act_on(self, said: Said) -> None:
        match said:
            case Printed(text):
                self._live.put_out("stdout", text.encode(errors="replace"))
            case Told(fields, line):
                self._live.write(EntryKind.AGENT, dict(fields), line)
            case Ready(version):
                self._listens(version)
            case Became(doing):
                self._became(doing)
            case Asked():
                self._requests.asked(said)
            case Withdrawn(request_id):
                self._requests.withdrawn(request_id)
            case Delivered(message_id, state):
                self._delivered(message_id, state)
            case TurnEnded():
                self._turn_ended(said)
            case Conversation(conversation_id, model):
                self._remember(conversation_id=conversation_id, model=model)

    def _listens(self, version: str | None) -> None:
        self._ready = True
        self._remember(version=version)
        if not self._sent:  # it has nothing to do, and says nothing of itself
            self._became(Doing.IDLE)

    def _became(self, doing: Doing) -> None:
        if doing is Doing.IDLE and self._leaving:
            self._end_session()
        if doing is not self._doing:
            self._doing = doing
            self._live.show(STATUSES[doing])

    def _delivered(self, message_id: str, state: str) -> None:
        match state:
            case "queued" | "started":
                self._begun.add(message_id)
            case "cancelled":
                self._settle(message_id, State.INTERRUPTED, "interrupted")
            case "completed" if message_id not in self._begun:  # by a process before this one
                if message_id in self._sent:
                    self._live.write(EntryKind.AGENT, {"type": "interrupted", "input_id": message_id})
                    self._live.put_out("stdout", b"[interrupted when its worker was lost; it is not run again]\n")
                self._settle(message_id, State.INTERRUPTED, "worker_lost")
            case "completed":
                self._settle(message_id, State.ANSWERED)

    def _turn_ended(self, turn: TurnEnded) -> None:
        state, reason = (State.INTERRUPTED, "interrupted") if turn.was_interrupted else (State.ANSWERED, None)
        for message_id in turn.message_ids:
            self._settle(message_id, state, reason)
        before = self._memory.cost_usd
        used = self._memory.count(turn)
        for kind, tokens in used.items():
            metrics.AGENT_TOKENS.labels(kind).inc(tokens)
        metrics.AGENT_TURNS.labels("error" if turn.is_error else "success").inc()
        metrics.AGENT_COST_USD.inc(max(0.0, self._memory.cost_usd - before))
        self._keep()

    def _settle(self, message_id: str, state: State, reason: str | None = None) -> None:
        """Note what became of a message, once."""
        self._begun.discard(message_id)
        if message_id not in self._sent:
            return
        input_seq = self._sent.pop(message_id)
        if input_seq is not None:
            self._live.tell(input_seq, state, reason)
        else:
            self._remember(query=str(state))

    # What a later holder must know.

    def _remember(self, **facts: str | None) -> None:
        if self._memory.note(**facts):
            self._keep()

    def _keep(self) -> None:
        self._live.host.affairs.keep(self._live, self._memory.as_json())

    # Time.

    def tick(self, now: float) -> None:
        """End what never listens; deny what nobody decides; nudge what is silent though it says it works."""
        if not self._live.is_running:
            return
        self._requests.tick(now)
        silent = now - self._heard_at
        if not self._ready:
            if silent > self._plan.start_seconds:
                self._give_up(f"did not say within {self._plan.start_seconds:g} s that it listens")
        elif self._doing is Doing.RUNNING and silent > self._plan.silence_seconds:
            self._nudge(silent)

    def _nudge(self, silent: float) -> None:
        if not self._nudged:
            self._nudged = True
            self._live.put_out("stdout", f"[silent for {silent:.0f} s: interrupted]\n".encode())
            self.interrupt()
        elif silent > self._plan.silence_seconds + LAST_WORD_SECONDS:
            self._give_up(f"was silent for {silent:.0f} s, and an interrupt changed nothing")

    def _give_up(self, why: str) -> None:
        self._live.exceeded(Stop(Reason.UNRESPONSIVE, why))

    def look_due(self, now: float) -> bool:  # noqa: ARG002
        """It says itself what it does."""
        return False

    def look(self, now: float) -> None:
        """There is nothing to see."""
