"""The Procfile: what platforms start, and what `jelmore up` starts, are the same commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from core.settings import Settings
from jelmore.children import parse_procfile
from jelmore.up import ORDER

PROCFILE = Path(__file__).parents[3] / "Procfile"


def test_comments_and_empty_lines_are_no_processes() -> None:
    assert parse_procfile("# a: b\n\nweb: run 'x:y()'\n") == {"web": "run 'x:y()'"}


def test_flower_as_an_application_of_its_own_is_the_same_command() -> None:
    alone = parse_procfile((PROCFILE.parent / "Procfile.flower").read_text())

    assert alone == {"web": parse_procfile(PROCFILE.read_text())["flower"]}


def test_what_heroku_is_told_of_exists() -> None:
    app = json.loads((PROCFILE.parent / "app.json").read_text())

    assert set(app["formation"]) | {"release"} == set(parse_procfile(PROCFILE.read_text()))
    assert {name.lower() for name in app["env"]} <= set(Settings.model_fields)
    assert (PROCFILE.parent / ".python-version").read_text().strip() in ("3.11", "3.12", "3.13", "3.14")


def test_a_python_that_need_not_be_there_does_not_stop_make(tmp_path: Path) -> None:
    """pyenv's python3 looks for the version that .python-version names, beginning where it is called."""
    shim, repository = tmp_path / "shims" / "python3", tmp_path / "repository"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\n[ -e .python-version ] && exit 127\nexec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    repository.mkdir()
    for name in ("Makefile", ".python-version"):
        (repository / name).symlink_to(PROCFILE.parent / name)
    path = os.pathsep.join([str(shim.parent), os.defpath])
    asked = subprocess.run(
        ["make", "-n", "setup"],
        cwd=repository,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert f'--python "{sys.executable}"' in asked.stdout


def test_every_process_of_the_procfile_is_started() -> None:
    assert set(parse_procfile(PROCFILE.read_text())) == {"release", *ORDER}


def test_every_command_is_one_program() -> None:
    """They are started with `exec`, so that a signal reaches the program and not a shell before it."""
    for command in parse_procfile(PROCFILE.read_text()).values():
        assert not {"&&", "||", ";", "|", "&"} & set(command.split())
        assert "=" not in command.split()[0]
