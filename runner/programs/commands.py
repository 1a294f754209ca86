"""What a session executes: built-in programs, configured ones, and how a session's query becomes argv or input."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from core.errors import SpawnFailed
from core.programs import QUERY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from core.programs import ConfiguredProgram
    from core.settings import Settings
    from models.tables import Session

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs of sessions find others, unless they are told otherwise."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed: absolute argv, variables beside the standard ones, what stands in stdin at first, how to end it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: bytes = b""
    stop_signal: int = signal.SIGTERM
    grace_seconds: float | None = None
    """How long it may take to stop. None: TERMINATE_GRACE_SECONDS."""
    directory: str | None = None
    """Where it starts unless the session says where. None: the workspace."""
    resumable: bool = False
    """Whether a session may be started again elsewhere when its worker is lost."""
    hands_over: bool = False
    """Whether it is, too, when its worker leaves."""
    ask_seconds: float | None = None
    """How long it may take to leave when it is asked in its own words, before any signal. None: it has no words for that."""


def command_of(session: Session, settings: Settings) -> Command:
    """Return what a session executes. Raises SpawnFailed for a program this worker does not know."""
    if built_in := BUILT_IN.get(session.program):
        return built_in(session)
    for program in settings.programs:
        if program.name == session.program:
            return _configured(program, session)
    raise SpawnFailed(f"this worker has no program named {session.program}")


def _shell(session: Session) -> Command:
    return Command(("/bin/sh", "-c", session.query))


def _echo(session: Session) -> Command:
    # printf, not echo: echo's treatment of backslashes differs between systems.
    return Command(("/usr/bin/printf", "%s\\n", session.query))


def _cat(session: Session) -> Command:
    """Copies what it is given: the query's line first, then every input."""
    return Command(("/bin/cat",), stdin=_line(session))


BUILT_IN: Final[Mapping[str, Callable[[Session], Command]]] = {"shell": _shell, "echo": _echo, "cat": _cat}


def _configured(program: ConfiguredProgram, session: Session) -> Command:
    argv = program.argv
    if program.query == "argument":
        argv = tuple(element.replace(QUERY, session.query) for element in argv)
    return Command(
        argv=argv,
        env=program.env,
        stdin=_line(session) if program.query == "stdin" else b"",
        stop_signal=program.stop_signal,
        grace_seconds=program.grace_seconds,
        directory=program.directory,
        resumable=program.resumable,
    )


def _line(session: Session) -> bytes:
    """Return the query as somebody would type it: on a terminal the key is a carriage return."""
    text = session.query.encode()
    if session.terminal is not None:
        return text if text.endswith((b"\r", b"\n")) else text + b"\r"
    return text if text.endswith(b"\n") else text + b"\n"
