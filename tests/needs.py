"""Programs of the system that a test drives: where one is missing the test is left out and named, in CI it fails."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from core.settings import environment

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sessions look for programs."""

_MISSING: Final = " is not installed"


def needs(program: str) -> str:
    """Return the path of a program. Where it is missing: skip the test, or fail it where the variable CI is set."""
    path = shutil.which(program, path=SYSTEM_PATH)
    if path is not None:
        return path
    if environment().get("CI"):
        pytest.fail(f"{program}{_MISSING} (make system-packages says what to install)", pytrace=False)
    pytest.skip(f"{program}{_MISSING}")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Name in one line what was left out, by whichever of several test processes."""
    reasons = (report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    missing = Counter(
        reason.removeprefix("Skipped: ").removesuffix(_MISSING) for reason in reasons if reason.endswith(_MISSING)
    )
    if missing:
        left_out = ", ".join(f"{program} ({count})" for program, count in sorted(missing.items()))
        terminalreporter.write_line(
            f"Left out for want of programs: {left_out}. `make system-packages` says what to install.", yellow=True
        )
