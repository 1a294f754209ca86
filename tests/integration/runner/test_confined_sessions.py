"""What confined sessions can and cannot do: limits, users, the sandbox; with the real keeper, kernel and bwrap."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import marks
from tests.checks import eventually
from tests.integration.runner.test_keeper import DAEMONS, Driver
from tests.needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
RANGE = "20000-20999"
SIZE = {"rows": 24, "cols": 80}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as somebody else")


@pytest.fixture(scope="module")
def _kept() -> Iterator[list[Driver]]:
    kept: list[Driver] = []
    yield kept
    for each in kept:
        each.stop()


@pytest.fixture
def driver(_kept: list[Driver]) -> Iterator[Driver]:
    """One that tests share as long as they leave it as it was: a start costs a second."""
    used = _kept.pop() if _kept else Driver()
    yield used
    if used.is_as_new:
        _kept.append(used)
    else:
        used.stop()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that every user may pass through; pytest's own directories are root's alone."""
    with tempfile.TemporaryDirectory(prefix="jelmore-") as made:
        Path(made).chmod(0o755)
        yield Path(made).resolve()


class Box:
    """Runs sessions under some settings."""

    def __init__(self, driver: Driver, home: Path, **environ: str) -> None:
        self.driver = driver
        self.environ = {"JELMORE_HOME": str(home)} | environ

    def start(self, query: str, **facts: Any) -> int:
        number = next(self.driver.numbers)
        self.driver.order("session", number, self.environ, {"query": query} | facts)
        return number

    def run(self, query: str, **facts: Any) -> tuple[str, list[Any]]:
        """Run to the end; return what was printed, and [code, signal]."""
        number = self.start(query, **facts)
        printed = self.driver.hear("output", number)[2]
        return printed, self.driver.hear("exited", number)[2:]

    def hear_printed(self, number: int, wanted: str) -> None:
        """Wait until a session has printed this."""
        text = ""
        while wanted not in text:
            text += self.driver.hear("printed", number)[2]


# Limits.


def test_limits_are_those_of_every_process(driver: Driver, home: Path) -> None:
    box = Box(
        driver, home, SESSION_MAX_FILES="64", SESSION_MAX_FILE_BYTES=str(MIB), SESSION_MAX_MEMORY_BYTES=str(512 * MIB)
    )
    printed, _ = box.run("for which in -c '-S -n' '-H -n' -f -v; do sh -c \"ulimit $which\"; done")

    assert printed.split() == ["0", "64", "64", str(MIB // 512), str(512 * 1024)]


@pytest.mark.case(29)
def test_a_program_that_takes_all_memory_fails_alone(driver: Driver, home: Path) -> None:
    box = Box(driver, home, SESSION_MAX_MEMORY_BYTES=str(64 * MIB))
    printed, how = box.run("head -c 1G /dev/zero | tail; echo still here")

    assert "memory" in printed
    assert "still here" in printed.splitlines()
    assert how == [0, None]


def test_a_file_grows_no_larger_than_it_may(driver: Driver, home: Path) -> None:
    _, how = Box(driver, home, SESSION_MAX_FILE_BYTES="4096").run("exec head -c 8192 /dev/zero > file")

    assert how == [None, "XFSZ"]
    assert next(home.glob("workspaces/*/file")).stat().st_size == 4096


# Users.


@as_root
def test_a_session_runs_as_its_user_and_nobody_else(driver: Driver, home: Path) -> None:
    box = Box(driver, home, SESSION_USER="20017")
    printed, _ = box.run(
        "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Inh)|NoNewPrivs' /proc/self/status; touch file; echo x > /dev/stderr"
    )
    words = [word for word in printed.split() if word != "x"]  # of two pipes, nobody knows which is read first

    assert words[:3] == ["20017"] * 3
    assert {int(word, 16) for word in words[4:9:2]} == {0}
    assert (words[-2:], "x" in printed) == (["NoNewPrivs:", "1"], True)
    assert next(home.glob("workspaces/*/file")).stat().st_uid == 20017


@as_root
def test_sessions_of_a_range_reach_neither_files_nor_memory_nor_processes_of_each_other(
    driver: Driver, home: Path
) -> None:
    box = Box(driver, home, SESSION_USER=RANGE)
    first = box.start("echo hush > secret; echo $$; exec sleep 300", env={"TOKEN": "hush"})
    victim = driver.hear("printed", first)[2].strip()
    workspace = next(home.glob("workspaces/*"))
    printed, _ = box.run(
        f"cat {workspace}/secret /proc/{victim}/environ; ls {workspace}; head -c1 /proc/{victim}/mem; kill -9 {victim}; id -u"
    )

    assert "hush" not in printed
    assert printed.count("denied") + printed.count("not permitted") + printed.count("cannot open") >= 4
    assert len(driver.processes(first)) == 1, printed


@as_root
def test_a_user_may_not_come_back_as_root(driver: Driver, home: Path) -> None:
    setuid = home / "setuid"
    setuid.write_bytes(Path("/usr/bin/id").read_bytes())
    setuid.chmod(0o4755)
    printed, _ = Box(driver, home, SESSION_USER=RANGE).run(f"{setuid}")

    assert "euid" not in printed


@as_root
def test_a_user_is_killed_with_the_rest_when_the_worker_dies(driver: Driver, home: Path) -> None:
    box = Box(driver, home, SESSION_USER=RANGE)
    box.start(DAEMONS)
    driver.wait_for(5)
    driver.process.kill()

    driver.wait_for(0)


@as_root
def test_a_user_is_killed_with_the_rest_when_the_keeper_dies(driver: Driver, home: Path) -> None:
    box = Box(driver, home, SESSION_USER=RANGE)
    box.start(DAEMONS)
    driver.wait_for(5)
    os.kill(driver.keeper, signal.SIGKILL)
    driver.hear("lost")

    assert driver.processes() == []


@as_root
def test_a_users_processes_are_limited_by_the_system_too(driver: Driver, home: Path) -> None:
    printed, _ = Box(driver, home, SESSION_USER=RANGE, SESSION_MAX_PROCESSES="50").run(
        "grep processes /proc/self/limits"
    )

    assert printed.split()[2:4] == ["100", "100"]


@as_root
def test_a_user_has_its_terminal(driver: Driver, home: Path) -> None:
    printed, how = Box(driver, home, SESSION_USER=RANGE).run(
        "tty > file; echo here > $(cat file); stty size", terminal=SIZE
    )

    assert (printed.split(), how) == (["here", "24", "80"], [0, None])


@as_root
def test_a_directory_closed_to_the_user_is_told(driver: Driver, home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    box = Box(driver, home, SESSION_USER=RANGE, SESSION_ROOTS=str(closed))
    box.start("true", requested_directory=str(closed))

    assert "directory: Permission denied" in driver.hear("failed")[2]


# The sandbox.

KINDS = [
    pytest.param({}, id="worker's user"),
    pytest.param({"SESSION_USER": RANGE}, id="range", marks=as_root),
]


@pytest.fixture(params=KINDS)
def sandbox(request: pytest.FixtureRequest, driver: Driver, home: Path) -> Box:
    needs("bwrap")
    return Box(driver, home, SESSION_SANDBOX="bwrap", **request.param)


@pytest.mark.parametrize("code", [0, 7, 255])
def test_an_exit_code_passes_through_the_sandbox(sandbox: Box, code: int) -> None:
    printed, how = sandbox.run(f"echo out; echo err >&2; exit {code}")

    assert (sorted(printed.split()), how) == (["err", "out"], [code, None])


def test_an_end_by_a_signal_is_told_as_shells_do(sandbox: Box) -> None:
    assert sandbox.run("kill -SEGV $$")[1] == [128 + signal.SIGSEGV, None]


def test_only_the_workspace_can_be_written_in_the_sandbox(sandbox: Box, home: Path) -> None:
    printed, how = sandbox.run(
        "exec 2>&1; for d in / /etc /usr /var /home /proc/sys/kernel; do touch $d/x; done; echo kept > file; cat file; pwd"
    )
    workspace = next(home.glob("workspaces/*"))

    assert printed.count("touch: ") == 6
    assert printed.endswith(f"kept\n{workspace}\n")
    assert how == [0, None]
    assert (workspace / "file").read_text() == "kept\n"


def test_settings_of_the_kernel_cannot_be_written_in_the_sandbox(sandbox: Box) -> None:
    printed, _ = sandbox.run(
        "find /proc/sys /sys -writable ! -type l 2>&1 | head; test -w /proc/sysrq-trigger && echo sysrq"
    )

    assert printed == ""


def test_a_sandboxed_session_sees_itself_alone(sandbox: Box, home: Path) -> None:
    (home / "secret").write_text("hush")
    other = sandbox.start("echo hush > secret; echo there; exec sleep 300", env={"TOKEN": "hush"})
    sandbox.hear_printed(other, "there")
    printed, _ = sandbox.run(f"cat /proc/[0-9]*/environ {home}/secret; find {home} /tmp /run /var/tmp -type f")
    assert "hush" not in printed
    printed, _ = sandbox.run(f"ls {home}/workspaces; ls -d /proc/[0-9]*; grep : /proc/net/dev")
    assert len(list(home.glob("workspaces/*"))) == 3
    assert sum(line.startswith("0000") for line in printed.splitlines()) == 1
    assert sum(line.startswith("/proc/") for line in printed.splitlines()) == 2  # bwrap and the shell
    assert [line.split(":")[0].strip() for line in printed.splitlines() if ":" in line] == ["lo"]


def test_a_network_is_there_if_the_operator_says_so(driver: Driver, home: Path) -> None:
    needs("bwrap")
    with_network = Box(driver, home, SESSION_SANDBOX="bwrap", SESSION_SANDBOX_NETWORK="true")
    here = Path("/proc/self/net/dev").read_text().count(":")

    assert with_network.run("grep -c : /proc/net/dev")[0].strip() == str(here)


def test_a_sandboxed_session_has_no_rights_of_root(sandbox: Box) -> None:
    printed, _ = sandbox.run("grep -E 'Cap|NoNewPrivs' /proc/self/status; mount -t tmpfs none /tmp; chown 1:1 .")

    assert {int(line.split()[1], 16) for line in printed.splitlines() if line.startswith("Cap")} == {0}
    assert "NoNewPrivs:\t1" in printed


def test_the_signs_of_a_session_survive_the_sandbox(sandbox: Box) -> None:
    number = sandbox.start("echo $JELMORE_SESSION_ID; exec env -i sleep 300")
    sandbox.hear_printed(number, ":1")

    sandbox.driver.wait_for(3, number)  # bwrap outside, bwrap inside, sleep


def test_a_signal_reaches_the_program_and_not_the_sandbox(sandbox: Box) -> None:
    for whole in (True, False):
        number = sandbox.start("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
        sandbox.hear_printed(number, "ready")
        sandbox.driver.order("signal", number, signal.SIGTERM, whole)

        assert "got it" in sandbox.driver.hear("output", number)[2]
        assert sandbox.driver.hear("exited", number)[2:] == [3, None]


def test_a_signal_before_the_program_runs_is_not_lost(sandbox: Box) -> None:
    for _ in range(5):
        number = sandbox.start("exec sleep 300")
        sandbox.driver.order("signal", number, signal.SIGTERM)

        assert sandbox.driver.hear("exited", number)[2:] in ([143, None], [None, "TERM"])


@pytest.mark.parametrize("ending", ["end", "worker", "keeper", "bwrap"])
def test_nothing_survives_in_the_sandbox(sandbox: Box, ending: str) -> None:
    number = sandbox.start(DAEMONS)
    driver = sandbox.driver
    driver.wait_for(7, number)
    if ending == "end":
        driver.order("end", number)
        driver.hear("empty", number)
        assert driver.processes() == []
    elif ending == "worker":
        driver.process.kill()
    elif ending == "keeper":
        os.kill(driver.keeper, signal.SIGKILL)
    else:
        os.kill(driver.hear("spawned", number)[2], signal.SIGKILL)

    driver.wait_for(0)


def test_what_a_main_process_leaves_in_the_sandbox_dies_with_it(sandbox: Box) -> None:
    sandbox.run("setsid sleep 300 > /dev/null 2>&1 & exit 0")

    sandbox.driver.wait_for(0)


def test_the_sandbox_does_not_count_among_a_sessions_processes(sandbox: Box) -> None:
    sandbox.environ["SESSION_MAX_PROCESSES"] = "3"
    quiet = sandbox.start("sleep 300 & sleep 300 & wait")
    sandbox.driver.wait_for(5, quiet)
    loud = sandbox.start("for i in 1 2 3; do sleep 300 & done; wait")

    assert sandbox.driver.hear("many")[1:] == [loud, 4]


def test_a_terminal_is_the_programs_own_in_the_sandbox(sandbox: Box) -> None:
    printed, how = sandbox.run(
        "ps -o pid,sid,tpgid,pgid,args; stty size; tty; echo to the terminal > /dev/tty", terminal=SIZE
    )

    assert "24 80" in printed
    assert "to the terminal" in printed
    assert how == [0, None]
    program = next(line.split() for line in printed.splitlines() if "/bin/sh -c" in line and "bwrap" not in line)
    assert program[0] == program[1] == program[2] == program[3]


def test_job_control_works_in_the_sandbox(sandbox: Box) -> None:
    script = "set -m; sleep 300 & sleep 0.1; kill -STOP %1; sleep 0.2; jobs; kill %1; echo done"
    printed, how = sandbox.run(script, terminal=SIZE)

    assert "Stopped" in printed
    assert "no job control" not in printed
    assert how == [0, None]


def test_a_program_that_is_not_there_is_told(sandbox: Box) -> None:
    sandbox.environ["JELMORE_PROGRAMS"] = '{"gone": {"argv": ["/no/such/program"]}, "text": {"argv": ["/etc/passwd"]}}'
    sandbox.start("", program="gone")
    assert "No such file" in sandbox.driver.hear("failed")[2]
    sandbox.start("", program="text")
    assert "Permission denied" in sandbox.driver.hear("failed")[2]


def test_a_directory_that_was_asked_for_can_be_written_in_the_sandbox(sandbox: Box, home: Path) -> None:
    root = home.parent / f"{home.name}-root"
    root.mkdir()
    root.chmod(0o777)
    try:
        sandbox.environ["SESSION_ROOTS"] = str(root)
        printed, how = sandbox.run("pwd; echo kept > file", requested_directory=str(root))
        assert (printed, how) == (f"{root}\n", [0, None])
        assert (root / "file").read_text() == "kept\n"
    finally:
        (root / "file").unlink(missing_ok=True)
        root.rmdir()


def test_a_directory_exchanged_under_the_sandbox_is_refused(sandbox: Box, home: Path) -> None:
    """bwrap goes by names: what happens to them after the check is noticed inside, before the program runs."""
    checked, other = home / "checked", home / "other"
    for directory in (checked, other):
        directory.mkdir()
        directory.chmod(0o777)
    sandbox.environ["SESSION_ROOTS"] = str(home)
    os.kill(sandbox.driver.keeper, signal.SIGSTOP)
    number = sandbox.start("echo ran > file", requested_directory=str(checked))
    eventually(lambda: list(home.glob("workspaces/*")))
    checked.rename(home / "away")
    checked.symlink_to(other)
    os.kill(sandbox.driver.keeper, signal.SIGCONT)

    assert sandbox.driver.hear("exited", number)[2:] == [126, None]
    assert list(home.glob("*/file")) == []


def test_no_descriptor_of_the_outside_is_open_in_the_sandbox(sandbox: Box) -> None:
    printed, _ = sandbox.run("ls -l /proc/self/fd")

    assert len([line for line in printed.splitlines() if "->" in line]) == 4  # 0, 1, 2 and the directory being listed


def test_marks_are_of_living_processes(sandbox: Box) -> None:
    number = sandbox.start("exec sleep 300")
    sandbox.driver.wait_for(3, number)

    assert all(marks.started(found.pid) for found in sandbox.driver.processes(number))
