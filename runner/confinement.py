"""What a session is kept from: limits, a user of its own, a sandbox. Decided here from the settings, carried out by the keeper.

Nothing here starts a session; `check` tries the sandbox once, so that what does not work on this machine is told at start.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Final

from core.errors import ConfigurationError, SpawnFailed
from runner import users, workspaces
from runner.programs.commands import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.settings import Settings
    from runner.users import User

DIRECTORY: Final = 9
"""Where the keeper puts the descriptor of the directory a sandboxed session starts in."""
HIDDEN: Final = ("/tmp", "/var/tmp", "/run")  # noqa: S108  (not used: hidden)
"""Empty in the sandbox: others' files, and sockets of the system's services, which even a read-only tree lets through."""
TRIAL_SECONDS: Final = 10.0


def limits(settings: Settings) -> tuple[tuple[int, int, int], ...]:
    """Return (RLIMIT_…, soft, hard) for each process of a session."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: settings.session_max_files,
        resource.RLIMIT_FSIZE: settings.session_max_file_bytes,
        resource.RLIMIT_AS: settings.session_max_memory_bytes,
        # It counts a uid's threads on the whole machine: of use only where the uid is one session's. Twice as many as
        # the keeper, which looks once a second, lets live: a fork bomb is to end, not to go on within its limit.
        resource.RLIMIT_NPROC: 2 * settings.session_max_processes if users.uids(settings) else None,
    }
    given = {kind: _at_most(kind, most) for kind, most in wanted.items() if most is not None}
    return tuple((kind, most, most) for kind, most in given.items())


def _at_most(kind: int, most: int) -> int:
    """Keep to what the system gives this process: not even root may always go beyond."""
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


# The sandbox.


@dataclass(frozen=True, slots=True)
class View:
    """What is the session's own in the sandbox: writable at its usual path. `home`: JELMORE_HOME, which is hidden."""

    home: Path
    workspace: Path
    directory: Path


def sandboxed(argv: Sequence[str], view: View, *, network: bool, terminal: bool) -> tuple[str, ...]:
    """Wrap a command line in bubblewrap's. Raises SpawnFailed if the directory is one the sandbox hides.

    bwrap finds the directory by its name: that it is the one that was checked is looked at inside, before the program
    runs. The program gets a session of its own, so that ^C and signals reach it and not bwrap, which would die of them.
    """
    own_network = () if network else ("--unshare-net",)
    take_terminal = ("-c",) if terminal else ()
    return (
        *(_found("bwrap"), "--die-with-parent", "--unshare-user-try", "--unshare-pid", "--unshare-ipc"),
        *("--unshare-uts", "--unshare-cgroup-try", *own_network, "--cap-drop", "ALL"),
        *(word for mount in _mounts(view, network=network) for word in mount),
        *("--chdir", str(view.directory), "--", "/bin/sh", "-c", SAME_DIRECTORY, "sandbox"),
        *(_found("setsid"), *take_terminal, *argv),
    )


SAME_DIRECTORY: Final = (
    f"[ . -ef /proc/self/fd/{DIRECTORY} ] || {{ echo 'the directory was exchanged' >&2; exit 126; }}; "
    f'exec {DIRECTORY}<&-; exec "$@"'
)


def _mounts(view: View, *, network: bool) -> list[tuple[str, ...]]:
    """Return bwrap's mounts, outer ones first: what comes later lies on top."""
    home, directory = view.home, view.directory
    if directory in (home, *map(Path, HIDDEN)) or _is_system(directory):
        raise SpawnFailed("the directory asked for is hidden in the sandbox")
    own = dict.fromkeys((view.workspace, directory))
    inner: list[tuple[Path, tuple[str, ...]]] = [(path, ("--bind", str(path), str(path))) for path in own]
    inner += [
        (path, ("--tmpfs", str(path))) for path in (*map(Path, HIDDEN), home) if path.is_dir() and not path.is_symlink()
    ]
    if network:
        resolver = "/run/systemd/resolve"  # /etc/resolv.conf points into it
        inner.append((Path(resolver), ("--ro-bind-try", resolver, resolver)))
    system: list[tuple[str, ...]] = [
        ("--ro-bind", "/", "/"),
        ("--dev", "/dev"),
        ("--proc", "/proc"),
        # bwrap leaves it writable to root, who could have the kernel run a program of theirs.
        ("--ro-bind", "/proc/sys", "/proc/sys"),
    ]
    return [*system, *(mount for _, mount in sorted(inner, key=lambda each: len(each[0].parts)))]


def _is_system(path: Path) -> bool:
    return path == Path("/") or any(path.is_relative_to(special) for special in ("/dev", "/proc", "/sys"))


@cache
def _found(program: str) -> str:
    found = shutil.which(program, path=PATH)
    if found is None:
        raise SpawnFailed(f"there is no {program} on this machine")
    return found


# At the worker's start.


def check(settings: Settings) -> None:
    """Raise ConfigurationError with everything that is asked for and cannot be had on this machine."""
    if faults := list(_faults(settings)):
        raise ConfigurationError([f"{fault}." for fault in faults])


def warnings(settings: Settings) -> list[str]:
    """Return what an operator should know about sessions that are kept apart less than they could be."""
    told = []
    if settings.session_user is None and os.geteuid() == 0:
        told.append(
            "sessions run as root: they can read what root can, and without a sandbox do what root can; set SESSION_USER"
        )
    elif settings.session_user is None and settings.session_sandbox is None:
        told.append(
            "sessions run as the worker's own user: they can read its files; set SESSION_USER or SESSION_SANDBOX"
        )
    elif settings.session_sandbox is None and not users.uids(settings):
        told.append("sessions share one user: they can read each other's files; let SESSION_USER be a range")
    return told


def _faults(settings: Settings) -> Iterator[str]:
    try:
        root = workspaces.root_of(settings)
    except SpawnFailed as fault:
        yield f"JELMORE_HOME must be writable: {fault.detail}"
        return
    user = _any_user(settings)
    if settings.session_user is not None:
        yield from _faults_of_user(settings, user, root)
    if settings.session_sandbox is not None and (why := _sandbox_fails(settings, user, root)):
        yield f"SESSION_SANDBOX must be left empty on this machine: {why}"


def _faults_of_user(settings: Settings, user: User | None, root: Path) -> Iterator[str]:
    if user is None:
        yield "SESSION_USER must be the name of a user of this machine"
    elif user.uid == 0:
        yield "SESSION_USER must not be root"
    elif os.geteuid() != 0:
        yield "SESSION_USER needs a worker that runs as root: nobody else can start processes as another user"
    elif closed := _closed_to(user, root):
        yield f"SESSION_USER needs the right to pass through {closed}, on the way to the workspaces"
    if (uids := users.uids(settings)) and len(uids) < settings.worker_slots:
        yield "SESSION_USER must be a range of at least WORKER_SLOTS uids"


def _any_user(settings: Settings) -> User | None:
    """Return the user, or one of the users, of sessions; None: the worker's own, or nobody of that name."""
    if uids := users.uids(settings):
        return users.of_range(uids[0])
    try:
        return users.shared(settings)
    except KeyError:
        return None


def _closed_to(user: User, path: Path) -> Path | None:
    """Return the first directory on the way to `path`, itself included, that a user may not pass through."""
    for directory in (*reversed(path.parents), path):
        if not directory.exists():
            return None
        facts = directory.stat()
        shift = 6 if facts.st_uid == user.uid else 3 if facts.st_gid in user.groups else 0
        if not facts.st_mode >> shift & 1:
            return directory
    return None


def _sandbox_fails(settings: Settings, user: User | None, root: Path) -> str | None:
    """Run `true` in the sandbox as a session would be; return why that failed."""
    trial = Path(mkdtemp(prefix=".trial-", dir=root))
    try:
        view = View(workspaces.home_of(settings), trial, trial)
        argv = sandboxed(("/bin/true",), view, network=settings.session_sandbox_network, terminal=False)
        if os.geteuid() != 0:
            user = None
        if user:
            os.chown(trial, user.uid, user.gid)
        return _try(argv, trial, user)
    except SpawnFailed as fault:
        return fault.detail
    finally:
        trial.rmdir()


AS_USER: Final = f"""
import ctypes, os, sys  # before the user changes, who may not reach them
user, *argv = sys.argv[1:]
if user:
    uid, gid, *groups = map(int, user.split())
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # no new privileges, as the keeper does
os.fchdir({DIRECTORY})
os.execv(argv[0], argv)
"""


def _try(argv: Sequence[str], directory: Path, user: User | None) -> str | None:
    """Run a command; return what it complained of. Not by subprocess: gevent's would take to reaping all our children."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = " ".join(map(str, (user.uid, user.gid, *user.groups))) if user else ""
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", AS_USER, who, *argv],
            {"PATH": PATH},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, tell, 2),
                (os.POSIX_SPAWN_DUP2, place, DIRECTORY),
            ],
        )
        if _wait(pid) == 0:
            return None
        os.set_blocking(told, False)
        with suppress(BlockingIOError):
            return os.read(told, 4096).decode(errors="replace").strip().rpartition("\n")[2]
        return "bwrap did not answer"
    finally:
        for descriptor in (told, tell, place):
            os.close(descriptor)


def _wait(pid: int) -> int | None:
    """Return the exit status of a child; None if it had to be killed."""
    deadline = time.monotonic() + TRIAL_SECONDS
    while time.monotonic() < deadline:
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            return status
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
