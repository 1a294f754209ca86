"""From a claimed row to a running process: workspace, environment, pipes, the keeper's spawn.

The environment is built from nothing. The service's own variables, with its secrets, never reach a session.
"""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import SpawnFailed
from models.claims import Started
from runner.keeper_link import SpawnRequest
from runner.plumbing import Letter, Plumbing
from runner.programs.plain import Command, command_of

if TYPE_CHECKING:
    from core.settings import Settings
    from models.tables import Session
    from runner.keeper_link import KeeperLink
    from runner.live import LiveSession

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def launch(keeper: KeeperLink, live: LiveSession, session: Session, settings: Settings) -> Started:
    """Spawn the session's process and listen to its pipes. Raises SpawnFailed; then nothing is left open."""
    command = _command(session)
    workspace = make_workspace(settings, session)
    directory = directory_of(settings, session, workspace)
    pipes = Pipes()
    try:
        request = SpawnRequest(
            tag=live.identity.tag,
            argv=command.argv,
            env=environment(session, command, workspace),
            cwd=str(directory),
            descriptors=(pipes.stdin[0], pipes.stdout[1], pipes.stderr[1]),
            limits=((resource.RLIMIT_CORE, 0, 0),),
            nice=settings.session_nice,
            max_processes=settings.session_max_processes,
        )
        pid = keeper.spawn(request)
    except BaseException:
        pipes.close_ours()
        raise
    finally:
        pipes.close_theirs()
    plumbing = Plumbing({pipes.stdout[0]: "stdout", pipes.stderr[0]: "stderr"}, pipes.stdin[1], live.ears())
    live.started(plumbing)
    if command.stdin:
        plumbing.write(Letter(None, command.stdin))
    return Started(pid, str(directory))


def _command(session: Session) -> Command:
    try:
        return command_of(session.program, session.query)
    except KeyError:
        raise SpawnFailed(f"this worker has no program named {session.program}") from None


class Pipes:
    """The three pipes of a process. Each is (read end, write end)."""

    def __init__(self) -> None:
        self.stdin = os.pipe2(os.O_CLOEXEC)
        self.stdout = os.pipe2(os.O_CLOEXEC)
        self.stderr = os.pipe2(os.O_CLOEXEC)
        for fd in self._ours():
            os.set_blocking(fd, False)

    def _ours(self) -> tuple[int, int, int]:
        return self.stdin[1], self.stdout[0], self.stderr[0]

    def close_ours(self) -> None:
        """Close the worker's ends."""
        for fd in self._ours():
            os.close(fd)

    def close_theirs(self) -> None:
        """Close the process's ends here, so that its death is the end of the pipe."""
        for fd in (self.stdin[0], self.stdout[1], self.stderr[1]):
            os.close(fd)


def environment(session: Session, command: Command, workspace: Path) -> dict[str, str]:
    """Return exactly the variables the process gets."""
    return {
        "PATH": PATH,
        "HOME": str(workspace),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        **command.env,
        **session.env,
        # The mark by which a node sweep finds what is left of a session (beside the inherited limit).
        "JELMORE_SESSION_ID": f"{session.id}:{session.fence}",
    }


def make_workspace(settings: Settings, session: Session) -> Path:
    """Make the session's own directory, readable by the service's user alone."""
    workspace = Path(settings.jelmore_home).resolve() / "workspaces" / str(session.id)
    try:
        workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise SpawnFailed(f"the workspace cannot be made: {fault.strerror}") from fault
    return workspace


def directory_of(settings: Settings, session: Session, workspace: Path) -> Path:
    """Return where the process starts: the directory asked for, if it is inside SESSION_ROOTS, else the workspace."""
    if session.requested_directory is None:
        return workspace
    wanted = Path(os.path.realpath(session.requested_directory))
    roots = [Path(os.path.realpath(root)) for root in settings.session_roots]
    if not any(wanted.is_relative_to(root) for root in roots):
        raise SpawnFailed("the directory asked for is outside SESSION_ROOTS")
    if not wanted.is_dir():
        raise SpawnFailed("the directory asked for does not exist on this worker")
    return wanted


def remove_workspace(settings: Settings, session_id: str) -> None:
    """Remove a workspace that was never used. One with files in it stays until retention."""
    with suppress(OSError):
        (Path(settings.jelmore_home).resolve() / "workspaces" / session_id).rmdir()
