"""PostgreSQL refuses to run as root: whom it runs as then, and how that user reaches its files.

Two things can be out of that user's reach below a directory only root may enter (a clone in /root):
 - the data: the process is started *in* its directory, and calls it `/proc/self/cwd`, which needs no right
   on the directories above (Linux; tried with initdb, recovery and parallel workers);
 - the programs: PostgreSQL resolves its own path, so they are copied to where they can be reached.
No user is created, and no permission of a directory that is not ours is changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NOBODY: Final = 65534
IN_PLACE: Final = Path("/proc/self/cwd")
# Not needed to run a server: headers and static libraries. Not by names of programs: `pg_*` are templates of initdb, too.
LEFT_OUT: Final = shutil.ignore_patterns("include", "*.a", "pkgconfig")


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """For subprocess: become this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def take(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether the user may enter the directory and all above it."""
        return all(self._enters(directory.stat()) for directory in [path, *path.parents])

    def _enters(self, stat: os.stat_result) -> bool:
        if stat.st_uid == self.uid:
            return bool(stat.st_mode & 0o100)
        if stat.st_gid == self.gid:
            return bool(stat.st_mode & 0o010)
        return bool(stat.st_mode & 0o001)


def account_for(directory: Path) -> Account | None:
    """Whom to run as: ourselves (None), or, if we are root, the owner of the data, or nobody."""
    if os.geteuid() != 0:
        return None
    if directory.exists() and (stat := directory.stat()).st_uid != 0:
        return Account(stat.st_uid, stat.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(NOBODY, NOBODY)
    return Account(nobody.pw_uid, nobody.pw_gid)


def reachable_temporary_directory(account: Account) -> Path | None:
    """A new directory that the user can enter but only root can write."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp below is safe
        if Path(parent).is_dir() and account.reaches(Path(parent).resolve()):
            created = Path(tempfile.mkdtemp(prefix="jelmore-postgres-", dir=parent)).resolve()
            created.chmod(0o711)
            return created
    return None


def copy_programs(installation: Path, into: Path) -> Path:
    """Copy `<package>/pginstallNN` and the libraries beside the package; return the copy of `pginstallNN`.

    The programs look for their libraries in `../../../<package>.libs`, so the layout is kept.
    """
    package = installation.parent
    copy = into / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True, ignore=LEFT_OUT)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name, symlinks=True)
    for directory, _, files in os.walk(into):
        Path(directory).chmod(0o755)
        for file in files:
            path = Path(directory, file)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    into.chmod(0o711)
    return copy
