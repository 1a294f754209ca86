"""Workspaces: whose they are, where processes start, and what becomes of old ones. Real directories, a real PostgreSQL."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from core.errors import SpawnFailed
from core.ids import uuid7
from core.settings import Settings, load_settings
from models import openings
from models.database import Database
from models.openings import Caps, NewSession
from models.tables import Session
from runner import workspaces
from runner.programs.commands import Command
from runner.retention import remove_old, remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

DAY = 86400
TRUE = Command(("/bin/true",))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def settings_of(home: Path, **environ: str) -> Settings:
    return load_settings({"JELMORE_HOME": str(home)} | environ)


def session(session_id: UUID | None = None, directory: str | None = None) -> Session:
    return Session(id=session_id or uuid7(), program="shell", query="true", env={}, requested_directory=directory)


def directory_of(place: workspaces.Place) -> str:
    return str(Path(f"/proc/self/fd/{place.descriptor}").readlink())


# Making them.


def test_a_workspace_is_fresh_and_its_users_alone(home: Path) -> None:
    place = workspaces.prepare(settings_of(home), session(), TRUE)
    place.close()

    assert place.directory == place.workspace == home / "workspaces" / place.workspace.name
    assert list(place.workspace.iterdir()) == []
    assert stat.S_IMODE(place.workspace.stat().st_mode) == 0o700


def test_the_umask_takes_nothing_from_the_way_to_a_workspace(home: Path) -> None:
    before = os.umask(0o077)
    try:
        workspaces.prepare(settings_of(home), session(), TRUE).close()
    finally:
        os.umask(before)

    assert stat.S_IMODE((home / "workspaces").stat().st_mode) == 0o711


def test_a_session_that_begins_again_finds_its_files(home: Path) -> None:
    again = session()
    first = workspaces.prepare(settings_of(home), again, TRUE)
    first.close()
    (first.workspace / "file").write_text("kept")
    workspaces.prepare(settings_of(home), again, TRUE).close()

    assert (first.workspace / "file").read_text() == "kept"


def test_a_workspace_that_cannot_be_made_is_told(home: Path) -> None:
    home.write_text("a file")

    with pytest.raises(SpawnFailed, match="cannot be made"):
        workspaces.prepare(settings_of(home), session(), TRUE)


def test_what_a_session_took_that_did_not_start_is_given_back(home: Path) -> None:
    settings = settings_of(home)
    failed = session()
    place = workspaces.prepare(settings, failed, TRUE)
    place.close()
    workspaces.discard(settings, failed.id)

    assert not place.workspace.exists()


# Where a process starts.


def test_a_directory_inside_the_roots_may_be_asked_for(home: Path, tmp_path: Path) -> None:
    inside = tmp_path / "root" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inside)
    settings = settings_of(home, SESSION_ROOTS=str(tmp_path / "root"))

    for wanted in (inside, tmp_path / "link", inside / ".." / "inside"):
        place = workspaces.prepare(settings, session(directory=str(wanted)), TRUE)
        assert directory_of(place) == str(place.directory) == str(inside)
        place.close()


@pytest.mark.parametrize("wanted", ["/", "/etc", "{root}/..", "{root}/out", "{root}/missing", "{root}/file", "{root}x"])
def test_no_other_directory_may_be_asked_for(home: Path, tmp_path: Path, wanted: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "rootx").mkdir()
    (root / "out").symlink_to("/etc")
    (root / "file").touch()
    settings = settings_of(home, SESSION_ROOTS=str(root))

    refused = session(directory=wanted.format(root=root))
    with pytest.raises(SpawnFailed, match="directory"):
        workspaces.prepare(settings, refused, TRUE)
    assert list((home / "workspaces").iterdir()) == []


def test_a_symlink_put_in_place_of_a_checked_directory_is_not_followed(tmp_path: Path) -> None:
    checked = tmp_path / "a" / "b" / "c"
    checked.mkdir(parents=True)
    os.close(workspaces._open(checked))
    (tmp_path / "a" / "b").rename(tmp_path / "away")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "away")

    with pytest.raises(SpawnFailed, match="cannot be opened"):
        workspaces._open(checked)


def test_a_program_may_have_a_directory_outside_the_roots(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    settings = settings_of(home, SESSION_ROOTS=str(root))
    command = Command(("/bin/true",), directory=str(own))

    place = workspaces.prepare(settings, session(), command)
    assert directory_of(place) == str(own)
    place.close()
    asked = workspaces.prepare(settings, session(directory=str(root)), command)
    assert directory_of(asked) == str(root)
    asked.close()


# Users.


@as_root
def test_a_workspace_belongs_to_the_user_of_sessions(home: Path) -> None:
    place = workspaces.prepare(settings_of(home, SESSION_USER="20017"), session(), TRUE)
    place.close()

    assert place.user is not None
    assert (place.user.uid, place.workspace.stat().st_uid) == (20017, 20017)


@as_root
def test_of_a_range_no_two_sessions_have_one_uid(home: Path) -> None:
    settings = settings_of(home, SESSION_USER="20000-20007", WORKER_SLOTS="8")
    places = [workspaces.prepare(settings, session(), TRUE) for _ in range(8)]
    for place in places:
        place.close()

    assert {place.user and place.user.uid for place in places} == set(range(20000, 20008))
    with pytest.raises(SpawnFailed, match="no uid"):
        workspaces.prepare(settings, session(), TRUE)


@as_root
def test_a_uid_that_is_given_back_opens_no_former_workspace(home: Path) -> None:
    settings = settings_of(home, SESSION_USER="20000-20000", WORKER_SLOTS="1")
    first, second = session(), session()
    former = workspaces.prepare(settings, first, TRUE)
    former.close()
    workspaces.release(settings, first.id)
    place = workspaces.prepare(settings, second, TRUE)
    place.close()

    assert place.user == former.user
    assert former.workspace.stat().st_uid == 0
    assert stat.S_IMODE(former.workspace.stat().st_mode) == 0o700


@as_root
def test_a_session_that_begins_again_has_the_uid_its_files_have(home: Path) -> None:
    settings = settings_of(home, SESSION_USER="20000-20999")
    again = session()
    before = workspaces.prepare(settings, again, TRUE)
    before.close()
    workspaces.release(settings, again.id)
    after = workspaces.prepare(settings, again, TRUE)
    after.close()

    assert before.user == after.user
    assert after.user is not None
    assert after.workspace.stat().st_uid == after.user.uid


@as_root
def test_a_uid_that_a_killed_worker_left_taken_goes_to_the_same_session(home: Path) -> None:
    settings = settings_of(home, SESSION_USER="20000-20999")
    again = session()
    before = workspaces.prepare(settings, again, TRUE)
    after = workspaces.prepare(settings, again, TRUE)
    before.close()
    after.close()

    assert before.user == after.user
    assert len(list(workspaces.taken(settings))) == 1


@as_root
def test_a_worker_that_lost_a_session_leaves_its_uid_to_the_one_that_has_it_now(home: Path) -> None:
    settings = settings_of(home, SESSION_USER="20000-20999")
    lost = session()
    before = workspaces.prepare(settings, lost, TRUE)
    before.close()
    (home / "users" / str(before.user and before.user.uid)).unlink()
    (home / "users" / str(before.user and before.user.uid)).symlink_to(f"{lost.id}:another-worker")
    workspaces.release(settings, lost.id)

    assert [holder for _, holder in workspaces.taken(settings)] == [lost.id]
    assert before.user is not None
    assert before.workspace.stat().st_uid == before.user.uid


# Old ones.


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database.open(load_settings({"DATABASE_URL": database_url}))
    yield opened
    opened.close()


def written(database: Database, **columns: Any) -> UUID:
    """A session of the database, with these columns."""
    with database.transaction() as tx:
        new = NewSession("ada", "key", "shell", "true", 60)
        made = openings.open_session(tx, new, Caps(None), at=before_now())
        if columns:
            tx.execute(update(Session).where(Session.id == made.id).values(**columns))
        return made.id


def before_now(ago: float = 0) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=ago)


def test_workspaces_go_some_time_after_their_sessions_end(home: Path, database: Database) -> None:
    settings = settings_of(home, RETENTION_WORKSPACES_SECONDS=str(7 * DAY))
    long_over = written(database, status="completed", ended_at=before_now(8 * DAY))
    just_over = written(database, status="completed", ended_at=before_now(6 * DAY))
    running = written(database)
    unknown, young = uuid7(), uuid7()
    for session_id in (long_over, just_over, running, unknown, young):
        place = workspaces.prepare(settings, session(session_id), TRUE)
        place.close()
        (place.workspace / "file").touch()
        os.utime(place.workspace, (time.time() - 30 * DAY,) * 2)
    os.utime(home / "workspaces" / str(young))

    assert remove_old(database, settings) == 2
    left = {path.name for path in (home / "workspaces").iterdir()}
    assert left == {str(just_over), str(running), str(young)}


def test_what_is_no_workspace_is_left_alone(home: Path, database: Database, tmp_path: Path) -> None:
    settings = settings_of(home, RETENTION_WORKSPACES_SECONDS="1")
    root = workspaces.root_of(settings)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (root / str(uuid7())).symlink_to(kept)
    (root / "notes").mkdir()
    (root / str(uuid7())).touch()
    for path in root.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)

    assert remove_old(database, settings) == 0
    assert len(list(root.iterdir())) == 3
    assert (kept / "file").exists()


@as_root
def test_uids_of_ended_sessions_are_given_back(home: Path, database: Database) -> None:
    settings = settings_of(home, SESSION_USER="20000-20999")
    over, running = written(database, status="failed", ended_at=before_now()), written(database)
    for session_id in (over, running):
        workspaces.prepare(settings, session(session_id), TRUE).close()
    remove_old(database, settings)

    assert [holder for _, holder in workspaces.taken(settings)] == [running]
    assert (home / "workspaces" / str(over)).stat().st_uid == 0


def test_nothing_outside_a_tree_is_removed_with_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    (tree / "sub").mkdir()
    (tree / "sub" / "link").symlink_to(outside)
    (tree / "sub" / "pipe").unlink(missing_ok=True)
    os.mkfifo(tree / "sub" / "pipe")
    remove_tree(tree)

    assert not tree.exists()
    assert (outside / "file").exists()


def test_a_tree_goes_whatever_rights_were_taken_from_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch(mode=0)
    for closed in (tree / "a" / "b", tree / "a", tree):
        closed.chmod(0)
    remove_tree(tree)

    assert not tree.exists()


def test_a_tree_goes_however_deep_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    deep = os.open(tree, os.O_RDONLY)
    for _ in range(3000):  # far beyond what a path, or the interpreter's stack, can hold
        os.mkdir("d", dir_fd=deep)
        deeper = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)
    remove_tree(tree)

    assert not tree.exists()


def test_a_tree_that_takes_too_long_is_left_for_the_next_round(tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)

    with pytest.raises(TimeoutError):
        remove_tree(tmp_path / "tree", give_up=0)
