"""Every case of the list of faults that the runner answers for has a test, marked with the case's number."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).parents[2]

ALL: Final = 56
"""As many cases the whole list has; those of the web tier and the mirror may be marked as well."""

CASES: Final = {
    1: "kill -9 of a worker with running sessions",
    2: "kill -9 of a worker between taking a message and starting the session",
    3: "kill -9 of the keeper",
    7: "kill -9 and restart of Redis",
    8: "Redis that accepts and does not answer",
    9: "Redis emptied",
    10: "Redis out of memory",
    13: "PostgreSQL restarted",
    14: "PostgreSQL that accepts and does not answer, longer than the lease",
    15: "PostgreSQL that refuses writes, its disk full",
    18: "a worker cut off from PostgreSQL alone, or from Redis alone",
    19: "a worker stopped beyond its lease, and continued",
    20: "SIGTERM of a worker: twice, and to all its processes",
    21: "SIGTERM of a worker while Redis or PostgreSQL is away",
    23: "one start delivered many times, and again after the end",
    24: "a wall clock that jumps",
    25: "a program that ignores SIGTERM",
    26: "a daemon of a double fork; a grandchild that holds the output",
    27: "a fork bomb",
    28: "a program that leaves zombies",
    29: "a program that takes all memory",
    30: "a program that cannot be started, or ends at once",
    31: "input to a program that closed its stdin",
    32: "input before the start, much at once, after the end",
    33: "a program that never reads its stdin",
    34: "terminating twice, while queued, and as the program ends by itself",
    35: "a session that runs too long, or stands idle too long",
    36: "output in a flood, without newlines, byte by byte",
    37: "output that is no text",
    53: "a worker's disk that is full",
    54: "a worker's machine gone with everything on it",
    55: "two versions at work at once",
    56: "a pid that passed on to another process",
}


def marks_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (test, case) for every `@pytest.mark.case(…)` of a file's tests."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.case":
                    for number in mark.args:
                        yield node.name, ast.literal_eval(number)


@pytest.fixture(scope="module")
def proved() -> dict[int, list[str]]:
    """For each case the tests that say they prove it."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for test, number in marks_of(path):
            found[number].append(test)
    return found


@pytest.mark.parametrize("number", CASES, ids=lambda number: f"{number}-{CASES[number].replace(' ', '_')}")
def test_every_case_has_a_test(number: int, proved: dict[int, list[str]]) -> None:
    assert proved[number], CASES[number]


def test_no_test_claims_a_case_that_does_not_exist(proved: dict[int, list[str]]) -> None:
    assert set(proved) <= set(range(1, ALL + 1))
