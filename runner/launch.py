"""From a claimed row to a running process: environment, pipes or a terminal, confinement, the keeper's spawn.

The environment is built from nothing. The service's own variables, with its secrets, never reach a session.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from core.errors import SpawnFailed
from models.claims import Started
from runner import confinement, workspaces
from runner.confinement import View
from runner.keeper_link import SpawnRequest
from runner.plumbing import Letter, Plumbing
from runner.programs.catalogue import command_at, usual_command
from runner.programs.claude_code.starting import source_of
from runner.programs.commands import PATH
from runner.terminal import NAME, Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from core.settings import Settings
    from models.tables import Session
    from runner.keeper_link import KeeperLink
    from runner.live import LiveSession
    from runner.plumbing import Ears
    from runner.programs.commands import Command
    from runner.users import User
    from runner.workspaces import Place


def launch(
    keeper: KeeperLink, live: LiveSession, session: Session, settings: Settings, origin: Session | None = None
) -> Started:
    """Spawn the session's process and listen to it. Raises SpawnFailed; then nothing is left open.

    `origin`: the session whose conversation it goes on with.
    """
    place = workspaces.prepare(settings, session, usual_command(session, settings))
    try:
        command = command_at(session, settings, place, source_of(origin))
        ends = ends_for(session, place.user)
        try:
            pid = keeper.spawn(request_for(live.identity.tag, session, command, settings, place, ends))
        except BaseException:
            ends.close_ours()
            raise
        finally:
            ends.close_theirs()
    except SpawnFailed:
        workspaces.discard(settings, session.id)
        raise
    finally:
        place.close()
    plumbing = ends.plumbing(live.ears())
    live.started(plumbing, pid)
    if command.stdin:
        plumbing.write(Letter(None, command.stdin))
    return Started(pid, str(place.directory))


def request_for(
    tag: int, session: Session, command: Command, settings: Settings, place: Place, ends: Ends
) -> SpawnRequest:
    """Return what the keeper is to execute."""
    terminal = session.terminal is not None
    argv, sandboxed = command.argv, None
    if settings.session_sandbox:
        sandboxed = argv[0]
        view = View(workspaces.home_of(settings), place.workspace, place.directory)
        argv = confinement.sandboxed(argv, view, network=settings.session_sandbox_network, terminal=terminal)
    return SpawnRequest(
        tag=tag,
        argv=argv,
        env=environment(session, command, place.workspace),
        directory=place.descriptor,
        descriptors=ends.theirs,
        terminal=terminal,
        limits=confinement.limits(settings),
        nice=settings.session_nice,
        max_processes=settings.session_max_processes,
        user=place.user,
        sandboxed=sandboxed,
    )


class Ends(Protocol):
    """What connects the worker and a process, before it is spawned."""

    @property
    def theirs(self) -> tuple[int, ...]: ...
    def plumbing(self, ears: Ears) -> Plumbing: ...
    def close_ours(self) -> None: ...
    def close_theirs(self) -> None: ...


def ends_for(session: Session, user: User | None) -> Ends:
    """Make what the session asked for: three pipes, or a terminal. Raises SpawnFailed where the system has none left."""
    try:
        if session.terminal is None:
            return Pipes()
        return OneTerminal(Terminal(session.terminal["rows"], session.terminal["cols"], user.uid if user else None))
    except OSError as fault:
        raise SpawnFailed(f"no pipes or terminal to be had: {fault.strerror}") from fault


class Pipes:
    """The three pipes of a process. Each is (read end, write end)."""

    def __init__(self) -> None:
        self._pairs: list[tuple[int, int]] = []
        try:
            for _ in range(3):
                self._pairs.append(os.pipe2(os.O_CLOEXEC))
        except OSError:
            for fd in (fd for pair in self._pairs for fd in pair):
                os.close(fd)
            raise
        self._stdin, self._stdout, self._stderr = self._pairs
        for fd in self._ours():
            os.set_blocking(fd, False)

    @property
    def theirs(self) -> tuple[int, ...]:
        """Return the process's 0, 1 and 2."""
        return self._stdin[0], self._stdout[1], self._stderr[1]

    def _ours(self) -> tuple[int, ...]:
        return self._stdin[1], self._stdout[0], self._stderr[0]

    def plumbing(self, ears: Ears) -> Plumbing:
        """Listen from here on."""
        return Plumbing({self._stdout[0]: "stdout", self._stderr[0]: "stderr"}, self._stdin[1], ears)

    def close_ours(self) -> None:
        """Close the worker's ends."""
        for fd in self._ours():
            os.close(fd)

    def close_theirs(self) -> None:
        """Close the process's ends here, so that its death is the end of the pipe."""
        for fd in self.theirs:
            os.close(fd)


class OneTerminal:
    """A terminal that is 0, 1, 2 and the controlling terminal of a process."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    @property
    def theirs(self) -> tuple[int, ...]:
        """Return the program's side."""
        return (self._terminal.theirs,)

    def plumbing(self, ears: Ears) -> Plumbing:
        """Listen from here on."""
        master = self._terminal.master
        keyboard = fcntl.fcntl(master, fcntl.F_DUPFD_CLOEXEC, 0)
        return Plumbing({master: NAME}, keyboard, ears, self._terminal)

    def close_ours(self) -> None:
        """Close both sides."""
        os.close(self._terminal.master)
        self._terminal.close()

    def close_theirs(self) -> None:
        """Nothing: the worker keeps the program's side until nothing of the session lives."""


def environment(session: Session, command: Command, workspace: Path) -> dict[str, str]:
    """Return exactly the variables the process gets."""
    return {
        "PATH": PATH,
        "HOME": str(workspace),
        "LANG": "C.UTF-8",
        "TERM": "dumb" if session.terminal is None else "xterm-256color",
        **command.env,
        **session.env,
        # The mark by which a node sweep finds what is left of a session (beside the inherited limit).
        "JELMORE_SESSION_ID": f"{session.id}:{session.fence}",
        # 1, and one more each time a resumable program is started again.
        "JELMORE_ATTEMPT": str(session.attempt),
    }
