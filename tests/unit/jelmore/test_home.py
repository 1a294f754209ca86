"""The directory of one `jelmore up`."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jelmore.home import CannotStart, Home
from jelmore.processes import Identity, end_all, start_mark
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)",
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_secret_is_the_same_at_each_start_and_only_its_owners(tmp_path: Path) -> None:
    secret, new = Home.open(tmp_path / "home").secret("api_key")
    (tmp_path / "home" / "api_key").chmod(0o644)

    assert new
    assert Home.open(tmp_path / "home").secret("api_key") == (secret, False)
    assert stat.S_IMODE((tmp_path / "home" / "api_key").stat().st_mode) == 0o600
    assert len(secret) >= 24


def test_a_second_one_in_the_same_home_is_refused_and_a_later_one_not(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    with home.locked(), pytest.raises(CannotStart, match="Another jelmore up"), Home.open(tmp_path / "home").locked():
        pass
    with home.locked():
        pass


def test_a_leftover_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    home = Home.open(tmp_path)
    home.note_running([Identity.of("worker", sleeper.pid, 15)])
    end_all(home.noted(), grace_seconds=5)

    assert sleeper.wait(5) == -15


def test_a_process_that_only_has_the_same_number_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    somebody_elses = Identity("worker", sleeper.pid, "another boot:1", 15)

    assert end_all([somebody_elses], grace_seconds=1) == []
    assert sleeper.poll() is None


def test_a_deaf_leftover_is_killed() -> None:
    with subprocess.Popen(DEAF, start_new_session=True, stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        end_all([Identity.of("worker", deaf.pid, 15)], grace_seconds=0.2)

        assert deaf.wait(5) == -9


def test_a_process_not_yet_reaped_is_gone() -> None:
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None
        ended.stdout.read()  # its end
        eventually(lambda: start_mark(ended.pid) is None)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"pid": 1}]'])
def test_notes_that_were_cut_say_nothing(tmp_path: Path, text: str) -> None:
    home = Home.open(tmp_path)
    (tmp_path / "running.json").write_text(text)

    assert home.noted() == []
