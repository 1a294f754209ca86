"""What a worker process opened once and hands down to everything that runs in it."""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGHUP
from typing import TYPE_CHECKING

from core.errors import SpawnFailed
from runner.programs.catalogue import usual_command
from runner.programs.commands import Command
from runner.supervision import Rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from core.clock import Clock
    from core.settings import Settings
    from models.database import Database
    from models.tables import Session
    from streams.appender import Appender


@dataclass(frozen=True, slots=True)
class World:
    """One worker incarnation's resources and identity. `tag`: 24 bits of the incarnation, marking its processes."""

    settings: Settings
    database: Database
    appender: Appender
    clock: Clock
    incarnation: UUID
    name: str
    ask_for_start: Callable[[UUID, str], object]
    """Let a worker be asked to run a session that was given back, at a priority. Never raises: housekeeping asks as well, later."""

    @property
    def tag(self) -> int:
        """Return the incarnation's part of the mark its processes carry."""
        return tag_of(self.incarnation)

    def rules_of(self, session: Session) -> Rules:
        """Return the limits that hold for a session."""
        try:
            command = usual_command(session, self.settings)
        except SpawnFailed:  # it will not start, and says so then
            command = Command(())
        asks, grace = command.stop_signal, command.grace_seconds
        return Rules(
            grace_seconds=self.settings.terminate_grace_seconds if grace is None else grace,
            run_seconds=session.timeout_seconds,
            drain_seconds=self.settings.terminate_grace_seconds,
            max_output_bytes=self.settings.session_max_output_bytes,
            idle_seconds=session.idle_timeout_seconds,
            # Interactive shells ignore TERM; that their terminal is gone they heed.
            stop_signals=(asks,) if session.terminal is None else (asks, SIGHUP),
            ask_seconds=command.ask_seconds,
            hands_over=command.hands_over,
        )


def tag_of(incarnation: UUID) -> int:
    """Return the last 24 bits of an incarnation: the random end of a UUIDv7."""
    return incarnation.int & 0xFFFFFF
