"""Any command: its bytes are its output, input is bytes for it, and what it does is seen from outside."""

from __future__ import annotations

from signal import SIGINT
from typing import TYPE_CHECKING

from models.inputs import Kind, State
from runner import awaiting
from runner.activity import Activity, Doing
from runner.awaiting import Source
from runner.plumbing import Letter

if TYPE_CHECKING:
    from models.inputs import Mail
    from runner.live import LiveSession


class Plain:
    """Watches one process."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live
        self._activity: Activity | None = None

    def started(self, now: float) -> None:
        """Begin to watch."""
        self._activity = Activity(self._live.host.idle_after_seconds, now)

    def printed(self, stream: str, chunk: bytes, now: float) -> None:
        """Pass it on as it is."""
        self._live.put_out(stream, chunk)
        if self._activity is not None:
            self._activity.printed(now, at_prompt=not chunk.endswith((b"\n", b"\r")))
            self.tick(now)

    def drained(self) -> None:
        """Nothing is held back."""

    def letter(self, mail: Mail) -> Letter:
        """Return the bytes as they were sent."""
        size = (mail.detail["rows"], mail.detail["cols"]) if mail.kind is Kind.RESIZE else None
        return Letter(mail.input_seq, mail.body, eof=mail.kind is Kind.EOF, size=size)

    def written(self, mail: Mail, now: float) -> None:  # noqa: ARG002  (whatever it was)
        """It has something to do."""
        if self._activity is not None:
            self._activity.given_input(now)
            self.tick(now)

    def interrupt(self) -> None:
        """Do what ^C does."""
        live = self._live
        terminal = live.plumbing.terminal if live.plumbing else None
        if terminal is None or live.plumbing is None:
            live.host.signal(live.identity.tag, SIGINT)
        elif keys := terminal.interrupt():
            live.plumbing.type_now(keys)

    def answer(self, mail: Mail) -> tuple[State, str] | None:  # noqa: ARG002  (it never asked)
        """It asks nobody."""
        return State.FAILED, "withdrawn"

    def leave(self, now: float) -> None:
        """Signals are all it knows."""

    def tick(self, now: float) -> None:
        """Tell what it has come to, if that is news."""
        status = self._activity.change(now) if self._activity is not None and self._live.is_running else None
        if status is not None:
            self._live.show(status)

    def look_due(self, now: float) -> bool:
        """Whether a look may change anything."""
        return self._activity is not None and self._activity.look_due(now)

    def look(self, now: float) -> None:
        """Look whether it waits for input."""
        if self._activity is not None:
            self._activity.saw(self._doing(), now)
            self.tick(now)

    def _doing(self) -> Doing:
        plumbing, pid = self._live.plumbing, self._live.pid
        pipe = plumbing.stdin_identity() if plumbing is not None else None
        if plumbing is None or pid is None or pipe is None or plumbing.unread() or plumbing.paused:
            return Doing.BUSY  # nothing to wait for, or it has not come to what it was given
        if plumbing.terminal is None:
            return awaiting.look(pid, Source(pipe=pipe))
        terminal = plumbing.terminal
        return awaiting.look(pid, Source(terminal=terminal.device, foreground=terminal.foreground()))
