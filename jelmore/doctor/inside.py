"""Asking the inside half, a process of its own: only it knows the tables and the servers (`python -m app.doctor`)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from jelmore.doctor.facts import Inside

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS: Final = 60.0
SHOWN: Final = 500


class NoInside(Exception):
    """The inside half did not answer. The message says why."""


def look(environ: Mapping[str, str]) -> Inside:
    """Return what is found with this environment. Raises NoInside."""
    # -P: a folder that happens to have an `app` in it is not ours.
    command = [sys.executable, "-P", "-m", "app.doctor"]
    try:
        ran = subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoInside(f"python -m app.doctor did not answer within {SECONDS:g} s") from None
    try:
        return Inside.model_validate_json(ran.stdout)
    except ValidationError:
        lines = ran.stderr.strip().splitlines() or ["it said nothing"]
        raise NoInside(f"python -m app.doctor failed: {lines[-1][:SHOWN]}") from None
