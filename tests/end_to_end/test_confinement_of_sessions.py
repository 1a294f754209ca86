"""What a session finds of the service it runs in: same user, a user of its own, a sandbox. A whole installation each.

A session that shares the worker's user cannot read any process's memory or environment: that is what the first tests show.
What it can read, because the kernel asks for nothing but the user, is that user's *files*: secrets of `jelmore up`, a `.env`,
the data of a PostgreSQL or Valkey started by the same user, and those servers' memory. It can signal that user's processes,
too. Only SESSION_USER, or SESSION_SANDBOX, keep it from these; the later tests show that they do.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import pytest

from core.start import CONFIGURATION_FAULTY
from jelmore.embedded import Valkey
from tests.checks import eventually, is_alive
from tests.member import ROOT, Member
from tests.needs import needs
from tests.service import KEYS, Service, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.client import Client

NOBODY = 65534
RANGE = "20000-20999"
SECRET = "kept-from-every-session"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as somebody else")

LOOK_AT_PROCESSES = """
grep CapEff /proc/self/status
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'
for process in /proc/[0-9]*; do
  head -c 1 $process/environ >/dev/null 2>&1 && echo environ ${process#/proc/}
  dd if=$process/mem of=/dev/null bs=1 count=0 2>/dev/null && echo memory ${process#/proc/}
  ls $process/fd/ >/dev/null 2>&1 && echo descriptors ${process#/proc/}
done
echo looked
"""


WAY = "dac_override"
"""The right by which a service that runs as nobody reaches root's own Python. Its sessions give it up."""
AS_NOBODY = (
    "--reuid",
    str(NOBODY),
    "--regid",
    str(NOBODY),
    "--clear-groups",
    f"--inh-caps=+{WAY}",
    f"--ambient-caps=+{WAY}",
)


class NobodysMember(Member):
    """A process of the service that runs as nobody."""

    def start(self) -> None:
        if self.alive:
            return
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [needs("setpriv"), *AS_NOBODY, sys.executable, "-m", *self.command],
                env=dict(self.env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class NobodysService(Service):
    """A service whose processes run as nobody: a test that runs as root could read everything otherwise."""

    def _member(self, name: str, command: Sequence[str], more: Mapping[str, str]) -> Member:
        return NobodysMember(name, command, self.env() | dict(more), self.home / f"{name}.log")


def nobody_runs_python() -> bool:
    """Whether somebody else than root reaches the interpreter and the packages."""
    command = [needs("setpriv"), *AS_NOBODY, sys.executable, "-c", "import gunicorn, celery, psycopg2, core.settings"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@contextmanager
def home_for_everybody() -> Iterator[Path]:
    """A home that every user may pass through; pytest's own directories are for one alone."""
    home = Path(tempfile.mkdtemp(prefix="jelmore-")).resolve()
    home.chmod(0o755)
    (home / "api_key").touch(mode=0o600)
    (home / "api_key").write_text(SECRET)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def shared_user(database_url: str) -> Iterator[Service]:
    """An installation whose sessions run as the user of its processes, who is not root."""
    with home_for_everybody() as home:
        if os.geteuid() != 0:
            with installed(home, database_url) as service:
                yield service
            return
        if not nobody_runs_python():
            pytest.skip("root's own Python cannot be run by anybody else")
        valkey = Valkey(home / "servers", fast=True)
        valkey.start()
        for path in (home, home / "api_key"):
            os.chown(path, NOBODY, NOBODY)
        service = NobodysService(home, valkey, database_url)
        try:
            yield service
        finally:
            service.stop()
            service.refuse_leaks()
            valkey.stop()


def secrets_of(service: Service) -> list[str]:
    """Everything that must not be seen: keys, passwords, addresses with passwords."""
    found = [*KEYS, service.database_url, service.valkey.url, SECRET]
    return [*found, *(url.rpartition("@")[0].rpartition(":")[2] for url in found[len(KEYS) : len(KEYS) + 2])]


def pids_of(service: Service) -> set[int]:
    """Return the service's own processes: web, its master, workers, their keepers, beat, Flower."""
    found = {member.pid for member in service.members() if member.alive}
    for pid in list(found):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found |= {int(child) for child in children}
    return found


def ran(client: Client, query: str, **fields: Any) -> str:
    """Run a session to its end and return what it printed."""
    session_id = client.create(query, **fields)
    client.events(session_id)
    return client.output(session_id).decode(errors="replace")


def opened(printed: str) -> set[int]:
    """Return the processes of which something could be opened."""
    words = [line.split() for line in printed.splitlines()]
    return {int(line[1]) for line in words if len(line) == 2 and line[0] in ("environ", "memory", "descriptors")}


# The same user.


def test_processes_of_the_service_are_closed_to_sessions_of_their_user(new_database: Callable[[], str]) -> None:
    with shared_user(new_database()) as service:
        service.start("one", "two")
        service.start_flower()
        ours, secrets = pids_of(service), secrets_of(service)
        give_up = "setpriv --ambient-caps=-all --inh-caps=-all" if os.geteuid() == 0 else ""
        other = service.ada.create(f"exec {give_up} sleep 60", env={"TOKEN": "another-sessions-own"})
        neighbour = int(eventually(lambda: service.ada.get(other)["claude_process_id"]))
        printed = ran(service.ada, f"exec {give_up} /bin/sh -c {quote(LOOK_AT_PROCESSES)}")
        service.ada.delete(other)

    assert neighbour in opened(printed)  # where nothing is closed, all is seen
    assert "another-sessions-own" in printed
    assert "CapEff:\t0000000000000000\n" in printed
    assert len(ours) >= 8  # gunicorn's two, two workers with a keeper each, beat, Flower
    assert printed.endswith("looked\n")
    assert opened(printed) & ours == set()
    assert [secret for secret in secrets if secret in printed] == []


def test_a_session_gets_no_variable_of_the_service(service: Service) -> None:
    names = {line.partition("=")[0] for line in ran(service.ada, "env").splitlines()}

    assert names <= {
        "PATH",
        "HOME",
        "LANG",
        "TERM",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "JELMORE_SESSION_ID",
        "JELMORE_ATTEMPT",
    }


# A user of its own.


@pytest.fixture(scope="module", params=[{}, {"SESSION_SANDBOX": "bwrap"}], ids=["users", "users and sandbox"])
def apart(request: pytest.FixtureRequest, new_database: Callable[[], str]) -> Iterator[Service]:
    """An installation of root's, whose sessions have uids of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root starts processes as somebody else")
    if "SESSION_SANDBOX" in request.param:
        needs("bwrap")
    with home_for_everybody() as home, installed(home, new_database(), SESSION_USER=RANGE, **request.param) as service:
        service.start("one")
        yield service


def test_a_session_with_a_uid_of_its_own_finds_no_secret(apart: Service) -> None:
    victim = apart.ada.create("echo $TOKEN > file; exec sleep 60", env={"TOKEN": "victims-own"})
    eventually(lambda: list(apart.home.glob(f"workspaces/{victim}/file")))
    look = f"{LOOK_AT_PROCESSES}\nfind {apart.home} -type f -exec cat {{}} + 2>/dev/null\nid -u"
    printed = ran(apart.ada, look)
    shown = apart.ada.get(victim)
    apart.ada.delete(victim)

    assert "victims-own" not in printed
    assert [secret for secret in secrets_of(apart) if secret in printed] == []
    assert int(printed.split()[-1]) in range(20000, 21000)
    assert shown["status"] in ("active", "idle", "waiting_input")
    if "SESSION_SANDBOX" not in apart.settings:  # in there pids are others
        assert opened(printed) & (pids_of(apart) | {int(shown["claude_process_id"])}) == set()


def test_a_session_with_a_uid_of_its_own_can_signal_nobody(apart: Service) -> None:
    victims = " ".join(map(str, pids_of(apart)))

    printed = ran(apart.ada, f"for pid in {victims}; do kill -9 $pid 2>/dev/null && echo killed $pid; done; echo alive")
    assert "killed" not in printed
    assert apart.answers()
    assert all(map(is_alive, pids_of(apart)))


def test_a_session_with_a_uid_of_its_own_lives_as_others_do(apart: Service) -> None:
    ada = apart.ada
    session_id = ada.create("read line; echo got $line; cat > file; wc -c < file; exit 7")
    ada.input(session_id, "hello")
    ada.input(session_id, "12345")
    eventually(lambda: b"got hello" in ada.output(session_id))
    ada.request("POST", f"/api/v1/sessions/{session_id}/eof", {})
    end = ada.events(session_id)[-1].data

    assert (end["reason"], end["exit_code"]) == ("exit_code", 7)
    assert ada.output(session_id) == b"got hello\n6\n"


def test_a_session_with_a_uid_of_its_own_is_asked_to_stop_and_leaves_nothing(apart: Service) -> None:
    session_id = apart.ada.create(
        "trap 'echo bye; exit 3' TERM; (setsid sleep 300 &); echo ready; while :; do sleep 0.1; done"
    )
    eventually(lambda: b"ready" in apart.ada.output(session_id))
    assert apart.ada.delete(session_id).status == 200

    assert b"bye\n" in apart.ada.output(session_id)
    assert apart.ada.get(session_id)["exit_code"] == 3
    assert apart.leftovers() == []


def test_a_fork_bomb_of_a_user_ends(apart: Service) -> None:
    # bash waits and tries again where it may not fork; sh gives up, and such a bomb may be over before it is noticed.
    session_id = apart.ada.create("exec bash -c 'bomb() { bomb | bomb & }; bomb; sleep 60'")
    end = apart.ada.events(session_id)[-1].data

    assert end["reason"] == "process_limit", apart.ada.output(session_id)[-2000:]
    eventually(lambda: apart.leftovers() == [])
    assert ran(apart.ada, "echo on") == "on\n"


def test_a_terminal_works_for_a_user_of_its_own(apart: Service) -> None:
    session_id = apart.ada.create("stty size; read line; echo got $line", terminal={"rows": 30, "cols": 100})
    eventually(lambda: b"30 100" in apart.ada.output(session_id))
    apart.ada.input(session_id, "hello")
    end = apart.ada.events(session_id)[-1].data

    assert end["exit_code"] == 0
    assert b"got hello" in apart.ada.output(session_id)


def test_control_c_at_a_terminal_reaches_the_program_alone(apart: Service) -> None:
    session_id = apart.ada.create(
        "trap 'echo interrupted' INT; echo ready; read line; read line; echo got $line",
        terminal={"rows": 24, "cols": 80},
    )
    eventually(lambda: b"ready" in apart.ada.output(session_id))
    apart.ada.input(session_id, "\x03", raw=True)
    eventually(lambda: b"interrupted" in apart.ada.output(session_id))
    for _ in range(2):
        apart.ada.input(session_id, "on")
    end = apart.ada.events(session_id)[-1].data

    assert (end["exit_code"], end["exit_signal"]) == (0, None)
    assert b"got on" in apart.ada.output(session_id)


# The sandbox alone.


def test_a_sandboxed_session_finds_no_secret_though_it_has_the_workers_user(new_database: Callable[[], str]) -> None:
    needs("bwrap")
    with home_for_everybody() as home, installed(home, new_database(), SESSION_SANDBOX="bwrap") as service:
        service.start("one")
        victim = service.ada.create("echo $TOKEN > file; exec sleep 60", env={"TOKEN": "victims-own"})
        eventually(lambda: list(home.glob(f"workspaces/{victim}/file")))
        look = f"{LOOK_AT_PROCESSES}\nfind {home} -type f -exec cat {{}} + 2>/dev/null; ls {home}; kill -9 -1; echo end"
        printed = ran(service.ada, look)
        network = ran(service.ada, "grep : /proc/net/dev")
        secrets = secrets_of(service)

    assert "victims-own" not in printed
    assert [secret for secret in secrets if secret in printed] == []
    assert "api_key" not in printed
    assert network.split(":")[0].strip() == "lo"
    assert len(network.splitlines()) == 1


# Configured programs.

SUM = "read line; echo $(($line)); trap 'echo interrupted; exit 0' INT; while :; do sleep 0.1; done"
PROGRAMS = {
    "sum": {"argv": ["/bin/sh", "-c", SUM], "stop_signal": "INT"},
    "greet": {"argv": ["/bin/sh", "-c", "echo $GREETING $0", "{query}"], "env": {"GREETING": "hello"}},
    "where": {"argv": ["/bin/pwd"], "query": "none", "directory": "/usr"},
    "screen": {"argv": ["/bin/stty", "size"], "query": "none", "terminal": {"rows": 7, "cols": 70}},
}  # fmt: skip


@pytest.fixture(scope="module")
def with_programs(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("programs")
    with installed(home, new_database(), JELMORE_PROGRAMS=json.dumps(PROGRAMS)) as service:
        service.start("one")
        yield service


def test_a_configured_program_is_run_as_it_is_described(with_programs: Service) -> None:
    ada = with_programs.ada

    assert ran(ada, "it's $me", program="greet") == "hello it's $me\n"
    assert ran(ada, "anything", program="where") == "/usr\n"
    assert ran(ada, "anything", program="screen") == "7 70\r\n"


def test_a_configured_program_is_stopped_as_it_wishes(with_programs: Service) -> None:
    ada = with_programs.ada
    session_id = ada.create("6 * 7", program="sum")
    eventually(lambda: ada.output(session_id) == b"42\n")
    assert ada.delete(session_id).status == 200

    assert ada.output(session_id) == b"42\ninterrupted\n"
    assert ada.get(session_id)["exit_code"] == 0


def test_a_program_that_is_not_configured_is_refused_and_the_others_are_named(with_programs: Service) -> None:
    answer = with_programs.ada.request("POST", "/api/v1/sessions", {"query": "x", "program": "vim"})

    assert answer.status == 422
    assert all(name in answer.json()["detail"] for name in (*PROGRAMS, "shell"))


# At the start.


def test_a_worker_does_not_start_with_a_user_that_cannot_be_had(service: Service) -> None:
    taken = {user.pw_name for user in pwd.getpwall()}
    unknown = next(name for name in ("no-such-user", "nor-such-a-user") if name not in taken)
    worker = service._member("worker-refused", ("tasks.worker",), {"SESSION_USER": unknown, "SESSION_MAX_FILES": "64"})
    worker.start()

    assert worker.wait(30) == CONFIGURATION_FAULTY
    assert "SESSION_USER" in worker.said()
    assert "Traceback" not in worker.said()
