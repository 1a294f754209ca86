"""Programs that are just a command line: what the operator offers to be run, and how a session's query becomes argv."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Command:
    """What is executed: absolute argv, variables beside the standard ones, and what stands in stdin at first."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""


def _shell(query: str) -> Command:
    return Command(("/bin/sh", "-c", query))


def _echo(query: str) -> Command:
    # printf, not echo: echo's treatment of backslashes differs between systems.
    return Command(("/usr/bin/printf", "%s\\n", query))


def _cat(query: str) -> Command:
    """Copies what it is given: the query's line first, then every input."""
    return Command(("/bin/cat",), stdin=query.encode() + b"\n")


PROGRAMS: Final[Mapping[str, Callable[[str], Command]]] = {"shell": _shell, "echo": _echo, "cat": _cat}


def command_of(program: str, query: str) -> Command:
    """Return what a session of this program executes. Raises KeyError for a program this worker does not know."""
    return PROGRAMS[program](query)
