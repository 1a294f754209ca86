"""What sessions are kept from, as far as it is decided without starting one."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from core.errors import ConfigurationError, SpawnFailed
from core.settings import load_settings
from runner import confinement
from runner.confinement import View, sandboxed
from tests.needs import needs

HOME, WORKSPACE = Path("/srv/jelmore"), Path("/srv/jelmore/workspaces/1")


@pytest.fixture(autouse=True)
def _bwrap() -> None:
    needs("bwrap")


def argv_of(directory: str | Path = WORKSPACE, *, network: bool = False, terminal: bool = False) -> list[str]:
    view = View(HOME, WORKSPACE, Path(directory))
    return list(sandboxed(("/bin/true", "a b"), view, network=network, terminal=terminal))


def limits_of(**environ: str) -> dict[int, int]:
    limits = confinement.limits(load_settings(environ))
    assert all(soft == hard for _, soft, hard in limits)
    return {kind: soft for kind, soft, _ in limits}


def place_of(argv: list[str], *words: str) -> int:
    """Return where these words stand in a command line."""
    return next(at for at in range(len(argv)) if tuple(argv[at : at + len(words)]) == words)


def test_limits_are_what_settings_say() -> None:
    assert limits_of() == {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 1024}
    limits = limits_of(SESSION_MAX_FILES="64", SESSION_MAX_FILE_BYTES="4096", SESSION_MAX_MEMORY_BYTES="20000000")
    assert limits[resource.RLIMIT_NOFILE] == 64
    assert limits[resource.RLIMIT_FSIZE] == 4096
    assert limits[resource.RLIMIT_AS] == 20_000_000


def test_no_limit_is_above_the_systems() -> None:
    assert limits_of(SESSION_MAX_FILES=str(10**9))[resource.RLIMIT_NOFILE] < 10**9


@pytest.mark.parametrize(("users", "counted"), [("", False), ("20000", False), ("20000-20999", True)])
def test_processes_are_counted_by_uid_only_where_it_is_one_sessions(users: str, counted: bool) -> None:
    assert (resource.RLIMIT_NPROC in limits_of(SESSION_USER=users)) is counted


def test_a_sandbox_runs_the_program_as_it_was_given() -> None:
    argv = argv_of()

    assert Path(argv[0]).name == "bwrap"
    assert argv[-2:] == ["/bin/true", "a b"]
    assert "--die-with-parent" in argv


def test_a_sandbox_has_a_network_only_if_told() -> None:
    assert "--unshare-net" in argv_of()
    assert "--unshare-net" not in argv_of(network=True)


def test_what_is_hidden_lies_below_what_is_the_sessions() -> None:
    argv = argv_of("/srv")

    assert place_of(argv, "--ro-bind", "/", "/") < place_of(argv, "--bind", "/srv", "/srv")
    assert place_of(argv, "--bind", "/srv", "/srv") < place_of(argv, "--bind", str(WORKSPACE), str(WORKSPACE))


def test_the_home_is_hidden_also_in_a_directory_that_holds_it(tmp_path: Path) -> None:
    home = tmp_path / "jelmore"
    home.mkdir()
    argv = list(sandboxed(("/bin/true",), View(home, home / "w", tmp_path), network=False, terminal=False))

    bound, hidden = place_of(argv, "--bind", str(tmp_path), str(tmp_path)), place_of(argv, "--tmpfs", str(home))
    assert bound < hidden < place_of(argv, "--bind", str(home / "w"), str(home / "w"))


@pytest.mark.parametrize("directory", ["/", "/proc", "/proc/1", "/dev", "/dev/shm", "/sys/fs", "/tmp", "/run", HOME])
def test_a_directory_that_the_sandbox_hides_cannot_be_started_in(directory: str | Path) -> None:
    with pytest.raises(SpawnFailed, match="hidden"):
        argv_of(directory)


# What is told at the start.


def faults(tmp_path: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        confinement.check(load_settings({"JELMORE_HOME": str(tmp_path / "home")} | environ))
    return refused.value.faults


def test_nothing_is_missing_where_nothing_is_asked_for(tmp_path: Path) -> None:
    confinement.check(load_settings({"JELMORE_HOME": str(tmp_path / "home")}))


def test_a_user_nobody_knows_is_a_fault(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, SESSION_USER="no-such-user")

    assert told.startswith("SESSION_USER ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_only_root_has_users_for_sessions(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, SESSION_USER="20000-20999")

    assert "root" in told


def test_root_is_no_user_for_sessions(tmp_path: Path) -> None:
    assert "root" in faults(tmp_path, SESSION_USER="root")[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="others are refused already")
def test_a_user_who_cannot_reach_the_workspaces_is_a_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (told,) = faults(tmp_path, SESSION_USER="20017")

    assert told.startswith("SESSION_USER ")
    assert "/" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="others are refused already")
def test_a_range_holds_a_uid_for_every_slot(tmp_path: Path) -> None:
    assert any("WORKER_SLOTS" in told for told in faults(tmp_path, SESSION_USER="20000-20003", WORKER_SLOTS="5"))


def test_a_sandbox_that_works_is_no_fault(tmp_path: Path) -> None:
    settings = load_settings({"JELMORE_HOME": str(tmp_path / "home"), "SESSION_SANDBOX": "bwrap"})
    confinement.check(settings)

    assert list((tmp_path / "home" / "workspaces").iterdir()) == []


def test_a_sandbox_that_does_not_work_is_told_in_its_own_words(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    broken = (*argv_of(place)[:-3], "/no/such/program")

    assert confinement._try(broken, place, None)


def test_a_home_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")

    assert faults(tmp_path)[0].startswith("JELMORE_HOME ")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, 1),
        ({"SESSION_USER": "20000"}, 1),
        ({"SESSION_USER": "20000-20999"}, 0),
        ({"SESSION_USER": "20000-20999", "SESSION_SANDBOX": "bwrap"}, 0),
        ({"SESSION_USER": "20000", "SESSION_SANDBOX": "bwrap"}, 0),
    ],
)
def test_an_operator_hears_what_sessions_share(environ: dict[str, str], told: int) -> None:
    assert len(confinement.warnings(load_settings(environ))) == told
