"""Removing what ended sessions left on this host: workspaces after RETENTION_WORKSPACES_SECONDS, uids that a dead worker held.

PostgreSQL says which sessions are over. Files are touched in a thread: a large tree would hold up every session.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import UUID

import gevent
import structlog
from sqlalchemy import extract, func, select

from core.errors import DatabaseUnavailable, SpawnFailed
from models.tables import Session
from runner import users, workspaces

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from core.settings import Settings
    from models.database import Database
    from runner.world import World

log = structlog.get_logger(__name__)

MOST_A_ROUND: Final = 1000
ROUND_SECONDS: Final = 60.0
"""A round takes no longer, give or take one directory; the next goes on."""


def keep_removing(world: World) -> NoReturn:
    """Remove now and then, for good."""
    while True:
        gevent.sleep(world.settings.session_cleanup_interval_seconds)
        try:
            remove_old(world.database, world.settings)
        except DatabaseUnavailable:
            log.debug("no workspaces removed: nobody knows which sessions are over")
        except (OSError, SpawnFailed) as fault:
            log.warning("workspaces cannot be looked at", error=str(fault))


def remove_old(database: Database, settings: Settings) -> int:
    """Remove old workspaces of this host, give back uids of ended sessions; return how many workspaces are gone."""
    in_thread = gevent.get_hub().threadpool.apply
    found = in_thread(_look, (settings,))
    held = {session_id for _, session_id in workspaces.taken(settings)} if users.uids(settings) else set()
    verdict = _ask(database, settings, {*found, *held})
    forgotten = {session_id for session_id, aged in found.items() if aged and session_id not in verdict.known}
    for session_id in held & (verdict.over | forgotten):
        workspaces.reclaim(settings, session_id)
    removed, failed = in_thread(_remove, (workspaces.root_of(settings), sorted(verdict.old & found.keys() | forgotten)))
    if removed:
        log.info("removed workspaces of sessions that are long over", count=removed)
    if failed:
        log.warning("workspaces that cannot be removed", count=len(failed), workspace=str(failed[0]))
    return int(removed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What PostgreSQL knows of some sessions: which there are, which have ended, and which long ago."""

    known: frozenset[UUID]
    over: frozenset[UUID]
    old: frozenset[UUID]


def _ask(database: Database, settings: Settings, session_ids: Collection[UUID]) -> Verdict:
    """Ask by PostgreSQL's own clock: workers' clocks may differ."""
    age = extract("epoch", func.clock_timestamp() - Session.ended_at)
    is_old = age > settings.retention_workspaces_seconds
    query = select(Session.id, Session.ended_at.is_not(None), func.coalesce(is_old, False))
    with database.transaction() as tx:
        rows = tx.execute(query.where(Session.id.in_(session_ids))).all()
    return Verdict(
        known=frozenset(session_id for session_id, _, _ in rows),
        over=frozenset(session_id for session_id, over, _ in rows if over),
        old=frozenset(session_id for session_id, _, old in rows if old),
    )


def _look(settings: Settings) -> dict[UUID, bool]:
    """Return up to so many workspaces, the oldest first, and whether nothing was made in them for the retention's time."""
    oldest = time.time() - settings.retention_workspaces_seconds
    found: list[tuple[float, UUID]] = []
    with os.scandir(workspaces.root_of(settings)) as entries:
        for entry in entries:
            with suppress(ValueError, OSError):  # no workspace, or gone
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime, UUID(entry.name)))
    return {session_id: changed < oldest for changed, session_id in sorted(found)[:MOST_A_ROUND]}


def _remove(root: Path, session_ids: Collection[UUID]) -> tuple[int, list[Path]]:
    give_up = time.monotonic() + ROUND_SECONDS
    failed: list[Path] = []
    removed = 0
    for session_id in session_ids:
        if time.monotonic() > give_up:
            break
        try:
            remove_tree(root / str(session_id), give_up)
            removed += 1
        except FileNotFoundError:
            continue  # another worker of this machine was faster
        except OSError:
            failed.append(root / str(session_id))
    return removed, failed


# Removing a directory that somebody else filled.


def remove_tree(tree: Path, give_up: float = float("inf")) -> None:
    """Remove a directory and all below it, without following a symlink, whatever rights its programs took from it.

    Directories below are moved up and emptied there one after the other: however deep a program nested them, two
    descriptors are enough. Raises OSError, TimeoutError if it is not through by `give_up` (monotonic seconds).
    """
    top = _enter(str(tree), None)
    try:
        _empty(top, top)
        while directories := [name for name in _names(top) if _is_directory(name, top)]:
            for name in directories:
                if time.monotonic() > give_up:
                    raise TimeoutError
                below = _enter(name, top)
                try:
                    _empty(below, top)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    tree.rmdir()


def _enter(name: str, parent: int | None) -> int:
    """Open a directory for reading, with the rights to do so."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags | os.O_PATH, dir_fd=parent)
    try:
        own = f"/proc/self/fd/{handle}"  # the directory itself, not what its name may mean by now
        os.chmod(own, 0o700)  # noqa: PTH101  (a descriptor)
        return os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(handle)


def _empty(directory: int, top: int) -> None:
    """Remove the files of a directory, and move directories out of it to the top, where they are not yet."""
    for name in _names(directory):
        if not _is_directory(name, directory):
            os.unlink(name, dir_fd=directory)
        elif directory != top:
            os.close(_enter(name, directory))  # moving one takes the right to write into it
            os.rename(name, os.urandom(16).hex(), src_dir_fd=directory, dst_dir_fd=top)


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
