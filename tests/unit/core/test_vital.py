"""A vital greenlet that fails takes its process along. Each law in a process of its own: that is what dies."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

START = """
import sys, threading
import gevent
from core import logs, metrics, vital
from core.settings import load_settings
logs.configure("worker", load_settings({"LOG_FORMAT": "json"}))
def fail(why): raise ValueError(why)
"""
ALIVE = "\ngevent.sleep(0.05); print('alive')"


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + program], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    "program",
    [
        "vital.spawn_vital('the pump', fail, 'dry')",
        "vital.spawn_vital('the pump', sys.exit, 0)",
        "gevent.get_hub().loop.run_callback(vital.loudly(fail), 'dry')",
    ],
)
def test_what_is_vital_and_fails_ends_the_process_with_its_traceback(program: str) -> None:
    done = run(program + ALIVE)

    assert done.returncode == vital_exit_code()
    assert "alive" not in done.stdout
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["level"] == "critical"
    assert line["part"] in ("the pump", "fail")
    assert "Traceback" in line["exception"]


def vital_exit_code() -> int:
    return 70  # EX_SOFTWARE


def test_it_ends_the_process_also_when_nobody_can_be_told() -> None:
    blind = "class Broken:\n    def critical(self, *_, **__): raise OSError\nvital.log = Broken()\n"

    assert run(blind + "vital.spawn_vital('the pump', fail, 'dry')" + ALIVE).returncode == vital_exit_code()


@pytest.mark.parametrize(
    "program",
    [
        "vital.spawn_vital('the pump', gevent.sleep, 0)",
        "vital.spawn_vital('the pump', gevent.sleep, 60).kill()",
        "vital.spawn_vital('the pump', gevent.sleep, 60); gevent.sleep(0)",
        "gevent.get_hub().loop.run_callback(vital.loudly(print), '')",
    ],
)
def test_an_end_that_was_wanted_ends_nothing_else(program: str) -> None:
    done = run(program + ALIVE)

    assert (done.returncode, done.stdout.split()[-1]) == (0, "alive")


def test_a_vital_greenlet_has_its_name_and_its_result() -> None:
    done = run("g = vital.spawn_vital('the pump', max, 1, 2); g.join(); print(g.name, g.value)")

    assert done.stdout == "the pump 2\n"


COUNT = "print(next(s.value for s in metrics.HUB_STALLS.collect()[0].samples if s.name.endswith('_count')))"


def test_a_hub_that_stands_still_is_measured_and_told() -> None:
    # An Event nobody sets, unpatched: it blocks the whole loop.
    blocked = "vital.watch_hub(); gevent.sleep(0.1); threading.Event().wait(0.6); gevent.sleep(0.1)\n"
    warning, count = run(blocked + COUNT).stdout.splitlines()

    assert count == "1.0"
    assert json.loads(warning)["level"] == "warning"
    assert json.loads(warning)["seconds"] >= 0.3


def test_a_hub_that_goes_round_is_not_told_of() -> None:
    assert run("vital.watch_hub(); gevent.sleep(0.2)\nprint(vital.STALL_SECONDS)").stdout == "0.3\n"
