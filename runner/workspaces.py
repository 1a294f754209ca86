"""Directories of sessions: a workspace of its own for each, and the directory a process starts in.

A workspace is readable by its session's user alone. Where SESSION_USER is a range, making one takes a uid of it:
JELMORE_HOME/users/<uid> is a link that names the session and who took it, so that workers of one machine never give a
uid twice, and one that lost a session does not take the uid from the one that has it now.
Removing old workspaces is `runner.retention`'s.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from core.errors import SpawnFailed
from runner import users

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core.settings import Settings
    from models.tables import Session
    from runner.programs.commands import Command
    from runner.users import User

log = structlog.get_logger(__name__)

PASSABLE: Final = 0o711
"""Others' users find what they know the name of, and see no names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session runs, and as whom. `descriptor` is of `directory`: nothing can be exchanged since it was checked."""

    workspace: Path
    directory: Path
    descriptor: int
    user: User | None
    """None: the worker's own."""

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def home_of(settings: Settings) -> Path:
    """Return JELMORE_HOME without symlinks."""
    return Path(os.path.realpath(settings.jelmore_home))


def root_of(settings: Settings) -> Path:
    """Return where workspaces are, made if need be. Raises SpawnFailed."""
    return _made(home_of(settings) / "workspaces", PASSABLE)


def prepare(settings: Settings, session: Session, command: Command) -> Place:
    """Make a session's workspace and open the directory it starts in. Raises SpawnFailed; then nothing is left of it."""
    workspace = root_of(settings) / str(session.id)
    try:
        user = _make(settings, session.id, workspace)
        directory = _resolve(settings, session.requested_directory, command.directory) or workspace
        return Place(workspace, directory, _open(directory), user)
    except SpawnFailed:
        discard(settings, session.id)
        raise


def release(settings: Settings, session_id: UUID) -> None:
    """Give back what only a living session needs, if this process took it: its uid. Never raises."""
    mark = _marks.pop(session_id, None)
    if mark is None or not users.uids(settings):
        return
    try:
        _give_back(settings, session_id, [uid for uid, holder in _links(settings) if holder == mark])
    except (OSError, SpawnFailed) as fault:
        log.warning("a uid is not given back", session_id=str(session_id), error=str(fault))


def reclaim(settings: Settings, session_id: UUID) -> None:
    """Give back the uid of a session that is over, whoever took it."""
    _give_back(settings, session_id, [uid for uid, holder in taken(settings) if holder == session_id])


def _give_back(settings: Settings, session_id: UUID, uids: Iterable[int]) -> None:
    """Free uids. The workspace is closed to whoever gets them next."""
    for uid in uids:
        with suppress(FileNotFoundError):
            # The group stays: it says whose the files are, should the session be started again.
            os.chown(root_of(settings) / str(session_id), os.geteuid(), -1, follow_symlinks=False)
        (_users(settings) / str(uid)).unlink(missing_ok=True)


def discard(settings: Settings, session_id: UUID) -> None:
    """Give back what a session took that could not be started. A workspace with files in it stays until retention."""
    release(settings, session_id)
    with suppress(OSError):
        (home_of(settings) / "workspaces" / str(session_id)).rmdir()


# Workspaces and their users.


def _make(settings: Settings, session_id: UUID, workspace: Path) -> User | None:
    try:
        workspace.mkdir(mode=0o700, exist_ok=True)
        facts = workspace.lstat()
        if not stat.S_ISDIR(facts.st_mode):
            raise SpawnFailed("the workspace is no directory")
        user = _user(settings, session_id, facts.st_gid)
        if user is not None:
            os.chown(workspace, user.uid, user.gid, follow_symlinks=False)
    except OSError as fault:
        raise SpawnFailed(f"the workspace cannot be made: {fault.strerror}") from fault
    except KeyError:
        raise SpawnFailed("SESSION_USER is no user of this machine any more") from None
    return user


def _user(settings: Settings, session_id: UUID, former: int) -> User | None:
    """Return whom a session runs as; of a range, whom it ran as before, else the next one that is free."""
    uids = users.uids(settings)
    if uids is None:
        return users.shared(settings)
    mark = _marks[session_id] = f"{session_id}:{os.urandom(8).hex()}"
    held = [uid for uid, holder in taken(settings) if holder == session_id]
    if held:  # by a worker that was lost
        _link(settings, held[0], mark, instead=True)
        return users.of_range(held[0])
    # Not the lowest first: what a session left in /tmp is to be old when its uid comes around again.
    start = _turn.get(uids, int.from_bytes(os.urandom(4), "big")) % len(uids)
    candidates = [former] if former in uids else []
    for uid in (*candidates, *(uids[(start + step) % len(uids)] for step in range(min(len(uids), MOST_TRIES)))):
        with suppress(FileExistsError):
            _link(settings, uid, mark)
            _turn[uids] = uids.index(uid) + 1
            return users.of_range(uid)
    raise SpawnFailed("no uid of SESSION_USER is free")


_turn: dict[range, int] = {}
_marks: dict[UUID, str] = {}
"""What stands in the links of this process's own sessions."""
MOST_TRIES: Final = 4096


def _users(settings: Settings) -> Path:
    return _made(home_of(settings) / "users", 0o700)


def _link(settings: Settings, uid: int, mark: str, *, instead: bool = False) -> None:
    link = _users(settings) / str(uid)
    if instead:
        draft = link.with_name(f".{mark}")
        draft.symlink_to(mark)
        draft.replace(link)
    else:
        link.symlink_to(mark)


def _links(settings: Settings) -> Iterator[tuple[int, str]]:
    with os.scandir(_users(settings)) as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        with suppress(OSError):  # given back meanwhile
            yield int(name), os.readlink(_users(settings) / name)  # noqa: PTH115  (a word, not a path)


def taken(settings: Settings) -> Iterator[tuple[int, UUID]]:
    """Yield (uid, session id) for every uid of a range that is given away on this machine."""
    for uid, mark in _links(settings):
        with suppress(ValueError):  # none of ours
            yield uid, UUID(mark.partition(":")[0])


def _made(directory: Path, mode: int) -> Path:
    if directory.is_dir():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=mode, exist_ok=True)
        directory.chmod(mode)  # whatever the umask took away
    except OSError as fault:
        raise SpawnFailed(f"{directory} cannot be made: {fault.strerror}") from fault
    return directory


# The directory to start in.


def _resolve(settings: Settings, requested: str | None, configured: str | None) -> Path | None:
    """Return the directory asked for, if it is inside SESSION_ROOTS, or the program's own."""
    if requested is None:
        return None if configured is None else Path(os.path.realpath(configured))
    wanted = Path(os.path.realpath(requested))
    roots = [Path(os.path.realpath(root)) for root in settings.session_roots]
    if not any(wanted.is_relative_to(root) for root in roots):
        raise SpawnFailed("the directory asked for is outside SESSION_ROOTS")
    return wanted


def _open(directory: Path) -> int:
    """Open a directory whose symlinks were resolved: one that stands there now was put there since, and is refused."""
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in directory.parts[1:]:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            deeper = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
    except OSError as fault:
        os.close(descriptor)
        raise SpawnFailed(f"the directory {directory} cannot be opened: {fault.strerror}") from fault
    return descriptor
