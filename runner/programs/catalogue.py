"""Which programs there are: what of each is executed, and who speaks with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.programs import commands
from runner.programs.claude_code import starting
from runner.programs.claude_code.driver import Driver as ClaudeCode
from runner.programs.claude_code.memory import Memory
from runner.programs.plain import Plain

if TYPE_CHECKING:
    from core.settings import Settings
    from models.tables import Session
    from runner.live import LiveSession
    from runner.programs.claude_code.starting import Source
    from runner.programs.commands import Command
    from runner.programs.driver import Driver
    from runner.workspaces import Place


def usual_command(session: Session, settings: Settings) -> Command:
    """Return what holds for a session before it has a place. Raises SpawnFailed for a program this worker does not know."""
    if session.program == starting.NAME:
        return starting.usual(settings)
    return commands.command_of(session, settings)


def command_at(session: Session, settings: Settings, place: Place, source: Source | None) -> Command:
    """Return what is executed at a place. Raises SpawnFailed."""
    if session.program == starting.NAME:
        return starting.command(session, settings, place, source)
    return commands.command_of(session, settings)


def driver_of(live: LiveSession, session: Session, settings: Settings) -> Driver:
    """Return who knows what the program says."""
    if session.program == starting.NAME:
        return ClaudeCode(live, starting.plan_of(session, settings), Memory.of(session.program_state))
    return Plain(live)
