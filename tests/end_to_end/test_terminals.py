"""Programs that take the whole screen, or ask at the terminal, driven over HTTP as a person would drive them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.client import SESSIONS
from tests.needs import needs
from tests.terminal import ENTER, ESCAPE, INTERRUPT, SUSPEND, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client import Client

DONE: Final = ("completed", "exited")
LONGEST_LINE: Final = 4095
PROMPT: Final = "here> "
NUMBERS: Final = "for i in 1 2 3 4 5 6 7 8 9; do for j in 0 1 2 3 4 5 6 7 8 9; do echo row $i$j; done; done > rows; "


@pytest.fixture
def bash(ada: Client) -> Callable[[], Terminal]:
    """A maker of interactive shells at their prompt."""
    path = needs("bash")

    def start() -> Terminal:
        terminal = Terminal(ada, f"exec {path} --noprofile --norc -i", env={"PS1": PROMPT})
        terminal.waits_for_prompt(PROMPT)
        return terminal

    return start


def workspace(ada: Client, terminal: Terminal) -> Path:
    return Path(ada.get(terminal.session_id)["current_directory"])


# Windows.


def test_a_program_sees_its_windows_size_and_every_change_of_it(ada: Client) -> None:
    with Terminal(
        ada, "trap 'stty size' WINCH; stty size; tty; while :; do sleep 0.1; done", rows=31, cols=97
    ) as terminal:
        terminal.waits_for("31 97")
        terminal.waits_for("/dev/pts/")
        terminal.resize(40, 120)
        terminal.waits_for("40 120")
        assert ada.get(terminal.session_id)["terminal"] == {"rows": 40, "cols": 120}
        terminal.resize(24, 80)
        terminal.waits_for("24 80")


def test_without_a_terminal_there_is_none(ada: Client) -> None:
    session_id = ada.create("tty; test -t 0 || test -t 1 || echo none")
    assert ada.events(session_id)[-1].data["status"] == "completed"
    assert ada.output(session_id) == b"not a tty\nnone\n"


# vim, less, top.


def test_vim_edits_a_file_and_redraws_in_another_window(ada: Client) -> None:
    with Terminal(ada, f"{NUMBERS} exec {needs('vim')} -u NONE -N rows") as terminal:
        terminal.waits_for("row 31\nrow 32")
        assert terminal.lines()[:23] == [f"row {number}" for number in range(10, 33)]
        terminal.type("ggOwörd" + ESCAPE)
        terminal.waits_for("wörd\nrow 10")
        terminal.resize(50, 100)
        terminal.waits_for("\nrow 57")
        assert terminal.lines()[:49] == ["wörd", *(f"row {number}" for number in range(10, 58))]
        terminal.type("Gdd:wq" + ENTER)
        assert terminal.ended() == DONE
        lines = (workspace(ada, terminal) / "rows").read_text().splitlines()

    assert lines == ["wörd", *(f"row {number}" for number in range(10, 99))]


def test_an_interrupt_is_a_key_where_the_program_takes_keys_itself(ada: Client) -> None:
    with Terminal(ada, f"exec {needs('vim')} -u NONE -N -n rows") as terminal:
        terminal.waits_for("~\n~")
        terminal.interrupt()
        terminal.waits_for(":qa")
        terminal.type(":q!" + ENTER)
        assert terminal.ended() == DONE


def test_less_turns_pages_searches_and_redraws_in_another_window(ada: Client) -> None:
    with Terminal(ada, f"{NUMBERS} exec {needs('less')} rows", rows=11) as terminal:
        terminal.waits_for("row 10\nrow 11")
        terminal.type(" ")
        terminal.waits_for("row 20\nrow 21")
        terminal.type("/row 77" + ENTER)
        terminal.waits_for("row 77\nrow 78")
        assert terminal.lines()[0] == "row 77"
        terminal.resize(21, 80)
        terminal.waits_for("\nrow 96")
        terminal.type("q")
        assert terminal.ended() == DONE


def test_top_shows_processes_until_it_is_told_to_stop(ada: Client) -> None:
    with Terminal(ada, f"exec {needs('top')} -d 1", rows=30, cols=100) as terminal:
        terminal.waits_for("load average")
        terminal.waits_for("COMMAND")
        terminal.type("q")
        assert terminal.ended() == DONE


# Prompts.


def test_python_answers_is_interrupted_and_ends_at_the_end_of_input(ada: Client) -> None:
    with Terminal(ada, f"exec {needs('python3')} -E -i -q") as terminal:
        terminal.waits_for_prompt(">>> ")
        terminal.enter("6 * 7")
        terminal.waits_for("42")
        terminal.enter("import time; print('begun'); time.sleep(1000)")
        terminal.waits_for("\nbegun")
        terminal.interrupt()
        terminal.waits_for("KeyboardInterrupt")
        terminal.enter("'alive' * 2")  # else it would end as if by a signal, for the interrupt was the last it heard
        terminal.waits_for("'alivealive'")
        terminal.waits_for_prompt(">>> ")
        terminal.end_of_file()
        assert terminal.ended() == DONE


def test_a_passphrase_that_is_asked_for_at_the_terminal_never_appears(ada: Client) -> None:
    keygen, secret = needs("ssh-keygen"), "pass phräse of nobody"
    with Terminal(ada, f"exec {keygen} -q -t ed25519 -f key") as terminal:
        terminal.waits_for("Enter passphrase")
        terminal.enter(secret)
        terminal.waits_for("same passphrase again")
        terminal.enter(secret)
        assert terminal.ended() == DONE
        key = workspace(ada, terminal) / "key"

    assert opens(keygen, key, secret)
    assert not opens(keygen, key, "")
    assert b"phr" not in terminal.printed.replace(b"passphrase", b"")
    assert secret.encode() not in ada.output(terminal.session_id)


def opens(keygen: str, key: Path, passphrase: str) -> bool:
    """Whether a passphrase opens a private key."""
    return subprocess.run([keygen, "-y", "-P", passphrase, "-f", key], capture_output=True, check=False).returncode == 0


# Shells.


@pytest.mark.parametrize("interrupt", ["key", "interrupt", "signal"])
def test_an_interrupt_ends_what_runs_in_a_shell_and_not_the_shell(bash: Callable[[], Terminal], interrupt: str) -> None:
    with bash() as shell:
        shell.enter("echo begun; sleep 1000; echo status $?")
        shell.waits_for("\nbegun")
        if interrupt == "key":
            shell.type(INTERRUPT)
        elif interrupt == "interrupt":
            shell.interrupt()
        else:
            shell.signal("INT")
        shell.waits_for_prompt(PROMPT)
        shell.enter("echo alive $((6 * 7))")
        shell.waits_for("\nalive 42")


def test_a_shell_ends_at_the_end_of_input(bash: Callable[[], Terminal]) -> None:
    with bash() as shell:
        shell.end_of_file()
        assert shell.ended() == DONE
        assert shell.text().endswith(f"{PROMPT}exit") or "exit" in shell.text()


def test_jobs_are_stopped_continued_and_brought_back(bash: Callable[[], Terminal]) -> None:
    with bash() as shell:
        shell.enter("sleep 1000")
        shell.waits_for("sleep 1000")
        shell.type(SUSPEND)
        shell.waits_for("Stopped")
        shell.waits_for_prompt(PROMPT)
        shell.enter("bg")
        shell.waits_for("sleep 1000 &")
        shell.enter("jobs")
        shell.waits_for("Running")
        shell.enter("fg")
        shell.waits_for("fg\nsleep 1000")
        shell.interrupt()
        shell.waits_for_prompt(PROMPT)
        shell.enter("jobs; echo no more")
        shell.waits_for("echo no more\nno more")


def test_a_shell_has_a_terminal_of_its_own(bash: Callable[[], Terminal]) -> None:
    with bash() as one, bash() as other:
        for shell in (one, other):
            shell.enter("tty; echo $TERM")
            shell.waits_for("\nxterm-256color")
        names = [next(line for line in shell.lines() if line.startswith("/dev/pts/")) for shell in (one, other)]
    assert names[0] != names[1]


def test_deleting_hangs_up(ada: Client, bash: Callable[[], Terminal]) -> None:
    with bash() as shell:
        answer = ada.delete(shell.session_id)
        assert answer.status == 200
        assert shell.ended() == ("terminated", "requested")


# Lines.


def test_a_character_is_deleted_whole(ada: Client) -> None:
    with Terminal(ada, "stty -echo; echo ready; read line; echo got $line") as terminal:
        terminal.waits_for("ready")
        terminal.type("aöü\x7f\x7fb" + ENTER)
        terminal.waits_for("got ab")


def test_the_longest_line_arrives_and_a_longer_one_is_refused(ada: Client) -> None:
    with Terminal(ada, "stty -echo; echo ready; while read -r line; do echo got ${#line}; done") as terminal:
        terminal.waits_for("ready")
        refused = ada.input(terminal.session_id, "x" * (LONGEST_LINE + 1))
        terminal.enter("y" * (LONGEST_LINE - 1))
        terminal.waits_for(f"got {LONGEST_LINE - 1}")
        keys = terminal.type(
            "z" * (LONGEST_LINE + 1) + ENTER
        ).json()  # only the worker sees who takes keys: not this one
        terminal.enter("short")
        terminal.waits_for("got 5")
        rows = ada.request("GET", f"{SESSIONS}/{terminal.session_id}/inputs").json()
        row = next(row for row in rows if row["input_seq"] == keys["input_seq"])
        printed = bytes(terminal.printed)

    assert (refused.status, refused.json()["error_code"]) == (422, "LINE_TOO_LONG")
    assert (row["state"], row["reason"]) == ("failed", "line_too_long")
    assert printed.split() == f"ready got {LONGEST_LINE - 1} got 5".encode().split()


def test_a_program_that_takes_keys_gets_as_many_as_are_typed(ada: Client, bash: Callable[[], Terminal]) -> None:
    with bash() as shell:
        shell.enter(f"echo {'z' * 3 * LONGEST_LINE} | wc -c")
        shell.waits_for(f"\n{3 * LONGEST_LINE + 1}")


def test_a_session_without_a_terminal_has_no_window(ada: Client) -> None:
    session_id = ada.create("sleep 60")
    answer = ada.request("POST", f"{SESSIONS}/{session_id}/resize", {"rows": 24, "cols": 80})
    ada.delete(session_id)

    assert (answer.status, answer.json()["error_code"]) == (409, "NO_TERMINAL")
