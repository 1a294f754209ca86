"""What a worker process opened once and hands down to everything that runs in it."""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGHUP, SIGTERM
from typing import TYPE_CHECKING

from core.errors import SpawnFailed
from runner.programs.commands import command_of
from runner.supervision import Rules

if TYPE_CHECKING:
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

    @property
    def tag(self) -> int:
        """Return the incarnation's part of the mark its processes carry."""
        return tag_of(self.incarnation)

    def rules_of(self, session: Session) -> Rules:
        """Return the limits that hold for a session."""
        try:
            command = command_of(session, self.settings)
            asks, grace = command.stop_signal, command.grace_seconds
        except SpawnFailed:  # it will not start, and says so then
            asks, grace = SIGTERM, None
        return Rules(
            grace_seconds=self.settings.terminate_grace_seconds if grace is None else grace,
            run_seconds=session.timeout_seconds,
            drain_seconds=self.settings.terminate_grace_seconds,
            max_output_bytes=self.settings.session_max_output_bytes,
            idle_seconds=session.idle_timeout_seconds,
            # Interactive shells ignore TERM; that their terminal is gone they heed.
            stop_signals=(asks,) if session.terminal is None else (asks, SIGHUP),
        )


def tag_of(incarnation: UUID) -> int:
    """Return the last 24 bits of an incarnation: the random end of a UUIDv7."""
    return incarnation.int & 0xFFFFFF
