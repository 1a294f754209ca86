"""Every line of every process in one shape. Logging belongs to a whole process, so each law has a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

START = """
import logging, sys, warnings
import structlog
from core import logs
from core.settings import load_settings
log = structlog.get_logger("ours")
{before}
logs.configure("web", load_settings({settings!r}))
{program}
"""
KEYS = '{"a-key-of-somebody-else": {"permissions": ["read"]}}'


def said(program: str, *, before: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    text = START.format(before=before, program=program, settings={"LOG_FORMAT": "json", "API_KEYS": KEYS} | settings)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)


def lines(program: str, *, before: str = "", **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(program, before=before, **settings).stdout.splitlines()]


def test_a_line_says_what_when_where_and_how_bad() -> None:
    (line,) = lines("log.warning('it rained', millimetres=3)")

    assert (line["event"], line["level"], line["process"]) == ("it rained", "warning", "web")
    assert (line["logger"], line["millimetres"]) == ("ours", 3)
    assert line["timestamp"].endswith("Z")


def test_libraries_lines_have_the_same_shape() -> None:
    ours, theirs = lines("log.info('x'); logging.getLogger('celery.worker').info('took %s', 'task', extra={'id': 7})")

    assert theirs.keys() == ours.keys() | {"id"}
    assert (theirs["event"], theirs["logger"], theirs["process"]) == ("took task", "celery.worker", "web")


def test_what_is_bound_stands_in_every_line_of_ours_and_of_libraries() -> None:
    told = lines(
        """
structlog.contextvars.bind_contextvars(request_id='r1')
log.info('ours')
logging.getLogger('sqlalchemy').warning('theirs')
structlog.contextvars.clear_contextvars()
log.info('later')
"""
    )

    assert [line.get("request_id") for line in told] == ["r1", "r1", None]


def test_a_library_with_outputs_of_its_own_takes_our_way() -> None:
    before = """
gunicorn = logging.getLogger('gunicorn.error')
gunicorn.addHandler(logging.StreamHandler(sys.stderr)); gunicorn.propagate = False; gunicorn.setLevel('DEBUG')
"""
    done = said("gunicorn.info('booting'); gunicorn.debug('much')", before=before)

    assert done.stderr == ""
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["booting"]


def test_gunicorns_access_lines_stay_where_they_were_sent() -> None:
    before = """
access = logging.getLogger('gunicorn.access')
access.addHandler(logging.FileHandler('/dev/null')); access.propagate = False; access.setLevel('INFO')
"""
    assert lines("access.info('GET /')", before=before) == []


def test_warnings_are_lines() -> None:
    (line,) = lines("warnings.warn('old', stacklevel=1)")

    assert line["logger"] == "py.warnings"
    assert "old" in line["event"]


def test_less_than_the_level_is_not_said() -> None:
    program = "log.info('a'); logging.getLogger('x').info('b'); log.error('c')"

    assert [line["event"] for line in lines(program, LOG_LEVEL="warning")] == ["c"]


def test_configuring_twice_says_each_line_once() -> None:
    assert len(lines("logs.configure('web', load_settings({'LOG_FORMAT': 'json'})); log.info('once')")) == 1


@pytest.mark.parametrize("odd", ["2**70", "'\\ud800'", "{1: 2}", "object()", "float('nan')", "{'s'}", "b'x'"])
def test_no_value_makes_a_line_fail(odd: str) -> None:
    done = said(f"log.info('odd', value={odd})")

    assert json.loads(done.stdout)["event"] == "odd"
    assert done.stderr == ""


FAILING = """
def connect():
    password = 'local-hush'
    raise OSError('no way to postgresql://u:hush@h/d with a-key-of-somebody-else')
try:
    connect()
except OSError as fault:
    log.exception('failed', fault=fault)
    logging.getLogger('theirs').exception('failed too')
"""


@pytest.mark.parametrize("shape", ["json", "pretty"])
def test_a_traceback_shows_no_secret_and_no_local_variable(shape: str) -> None:
    done = said(FAILING, LOG_FORMAT=shape)

    assert done.stdout.count("Traceback") == 2
    assert "postgresql://u:***@h/d" in done.stdout
    assert "hush" not in done.stdout
    assert "a-key-of" not in done.stdout
    assert done.stderr == ""


def test_lines_for_people_are_no_json() -> None:
    done = said("log.info('hello', to='you')", LOG_FORMAT="pretty")

    assert "hello" in done.stdout
    assert not done.stdout.startswith("{")


def test_a_pipe_gets_json_unless_told() -> None:
    assert lines("log.info('hello')", LOG_FORMAT="")[0]["event"] == "hello"


def test_a_log_file_gets_json_beside_what_standard_output_gets(tmp_path: Path) -> None:
    file = tmp_path / "web.log"
    done = said("log.info('hello'); log.info('again')", LOG_FORMAT="pretty", LOG_FILE=str(file))

    assert "hello" in done.stdout
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["hello", "again"]


def test_a_log_file_that_is_rotated_away_is_opened_anew(tmp_path: Path) -> None:
    file = tmp_path / "web.log"
    said(
        f"import os; log.info('old'); os.rename({str(file)!r}, {str(file) + '.1'!r}); log.info('new')",
        LOG_FILE=str(file),
    )

    assert json.loads(file.read_text())["event"] == "new"


def test_a_log_file_that_cannot_be_opened_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as ended:
        said("", LOG_FILE=str(tmp_path / "nowhere" / "web.log"))

    assert "LOG_FILE cannot be opened: No such file or directory." in ended.value.stderr


def test_on_a_terminal_nobody_else_writes_lines_or_commands() -> None:
    path = "/a\n[info] all is well \x1b[2J\x9b2J\r"
    printed = said(
        f"log.info('request', path={path!r}); logging.getLogger('x').info({path!r})", LOG_FORMAT="pretty"
    ).stdout

    assert len(printed.splitlines()) == 2
    assert "\x1b[2J" not in printed
    assert "\x9b" not in printed


WRITERS = """
for number in range(200):
    log.info('x' * 20000, number=number)
"""


def test_processes_that_share_a_log_file_do_not_write_into_each_others_lines(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    text = START.format(before="", program=WRITERS, settings={"LOG_FORMAT": "json", "LOG_FILE": str(file)})
    writers = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL) for _ in range(3)]

    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(line["number"] for line in written) == sorted([*range(200)] * 3)


def test_a_process_with_a_log_file_that_cannot_be_opened_says_so_in_a_sentence_and_leaves(tmp_path: Path) -> None:
    env = {"LOG_FILE": str(tmp_path / "nowhere" / "app.log"), "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-c", "from core.start import begin; begin('beat')"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 78
    assert "LOG_FILE cannot be opened: No such file or directory." in done.stderr
    assert "Traceback" not in done.stderr
