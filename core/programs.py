"""Programs an operator configures: what JELMORE_PROGRAMS may say. What becomes of one at a session's start is `runner`'s business.

Faults are told all at once, one a line. They name the program and the member, never a value: values may be secrets.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BUILT_IN_PROGRAMS: Final = ("shell", "echo", "cat", "claude")
PRODUCTION_PROGRAMS: Final = ("echo", "cat", "claude")
"""Those that are enabled in production unless PROGRAMS_ENABLED says otherwise."""

CONVERSATIONS: Final = ("claude",)
"""Programs that answer each input, ask for decisions, know inputs by their ids, and can go on with a conversation."""

QUERY: Final = "{query}"
USUAL_TERMINAL: Final = {"rows": 24, "cols": 80}
LONGEST_SIDE: Final = 1000
LONGEST_GRACE_SECONDS: Final = 3600
LARGEST_FILE: Final = 1024 * 1024
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
STOP_SIGNALS: Final = ("HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "USR2", "ALRM", "TERM")


@dataclass(frozen=True, slots=True)
class ConfiguredProgram:
    """A program of JELMORE_PROGRAMS. `{query}` stands in `argv` where the session's query goes."""

    name: str
    argv: tuple[str, ...]
    query: Literal["argument", "stdin", "none"] = "stdin"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    terminal: Mapping[str, int] | None = None
    """`rows` and `cols` of the terminal its sessions get unless they ask for another. None: pipes."""
    stop_signal: int = signal.SIGTERM
    grace_seconds: float | None = None
    """How long it may take to stop. None: as all others."""
    directory: str | None = None
    """Where it starts, unless the session says where. None: the session's workspace."""
    resumable: bool = False
    """Whether a session may be started again elsewhere when its worker is lost."""


def is_resumable(name: str, configured: Iterable[ConfiguredProgram]) -> bool:
    """Whether sessions of a program may be started again elsewhere."""
    return name in CONVERSATIONS or any(each.name == name and each.resumable for each in configured)


def parse_programs(value: Any) -> tuple[ConfiguredProgram, ...]:
    """Parse JELMORE_PROGRAMS: the path of a TOML file with one table a program, or a JSON object of the same shape.

    Raises ValueError with a line for each fault.
    """
    if isinstance(value, tuple):
        return value
    programs = _from_json(value) if value.lstrip().startswith("{") else _from_file(value)
    faults = [
        f"{fault} (program {_shown(name)})" for name, about in programs.items() for fault in _faults_of(name, about)
    ]
    if faults:
        raise ValueError("\n".join(faults))
    return tuple(_program(name, about) for name, about in programs.items())


class _Repeated(ValueError):
    """An object names a member twice: JSON itself would keep the last one without a word."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        raise _Repeated
    return members


def _from_json(text: str) -> dict[str, Any]:
    try:
        programs: dict[str, Any] = json.loads(text, object_pairs_hook=_once)
    except _Repeated:
        raise ValueError("names a program, or a member of one, twice") from None
    except (ValueError, RecursionError):
        raise ValueError("is not valid JSON") from None
    return programs


def _from_file(name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(Path(name)).decode())
    except OSError as fault:
        why = f"the file cannot be read: {fault.strerror}"
        raise ValueError(f"must be a JSON object, or the path of a TOML file; {why}") from None
    except UnicodeDecodeError:
        raise ValueError("needs a file in UTF-8") from None
    except (ValueError, RecursionError) as fault:  # tomllib's words hold names and places, no values
        raise ValueError(f"needs a TOML file: {fault}") from None


def _read(path: Path) -> bytes:
    """Return a file's bytes. Pipes and devices are not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"larger than {LARGEST_FILE} bytes")
    return raw


# Faults.


def _faults_of(name: str, about: Any) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield "needs names of up to 64 letters, digits, dots, dashes and underscores for programs"
    if name in BUILT_IN_PROGRAMS:
        yield "needs other names than those of built-in programs"
    if not isinstance(about, dict):
        yield 'needs members like argv = ["/usr/bin/python3", "-i"] for each program'
        return
    if unknown := sorted(set(about) - {"argv", *MEMBERS}):
        yield f"has unknown members: {', '.join(map(_shown, unknown))}"
    yield from _faults_of_argv(about.get("argv"), about.get("query"))
    for member, (is_right, wanted) in MEMBERS.items():
        if member in about and not is_right(about[member]):
            yield f"needs {member} to be {wanted}"


def _shown(name: str) -> str:
    return name if NAME.fullmatch(name) else ascii(name[:64])


def _faults_of_argv(argv: Any, query: Any) -> Iterator[str]:
    if not isinstance(argv, list) or not argv or not all(map(_is_text, argv)):
        yield "needs argv to be a list of texts"
        return
    if not argv[0].startswith("/"):
        yield "needs argv to begin with an absolute path"
    if QUERY in argv[0]:
        yield f"needs argv to begin with a path without {QUERY}"
    takes = any(QUERY in element for element in argv)
    if takes and query in ("stdin", "none"):
        yield f"needs argv without {QUERY}, or query to be argument"
    if query == "argument" and not takes:
        yield f"needs argv with {QUERY} in it, or query to be stdin or none"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_environment(value: Any) -> bool:
    return isinstance(value, dict) and all(
        VARIABLE.fullmatch(name) and not name.startswith("JELMORE_") and _is_text(text) for name, text in value.items()
    )


def _is_terminal(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    return isinstance(value, dict) and set(value) == {"rows", "cols"} and all(map(_is_side, value.values()))


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST_SIDE


def _is_grace(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and 0 < value <= LONGEST_GRACE_SECONDS


def _is_signal(value: Any) -> bool:
    return isinstance(value, str) and value.upper().removeprefix("SIG") in STOP_SIGNALS


MEMBERS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "query": (lambda value: value in ("argument", "stdin", "none"), "argument, stdin or none"),
    "env": (
        _is_environment,
        "texts by names of letters, digits and _, which do not begin with a digit or with JELMORE_",
    ),
    "terminal": (_is_terminal, f"true, false, or rows and cols of 1 to {LONGEST_SIDE}"),
    "stop_signal": (_is_signal, f"one of {', '.join(STOP_SIGNALS)}"),
    "grace_seconds": (_is_grace, f"a number of seconds above 0, at most {LONGEST_GRACE_SECONDS}"),
    "directory": (lambda value: _is_text(value) and value.startswith("/"), "an absolute path"),
    "resumable": (lambda value: isinstance(value, bool), "true or false"),
}


# Values.


def _program(name: str, about: Mapping[str, Any]) -> ConfiguredProgram:
    argv = tuple(about["argv"])
    grace = about.get("grace_seconds")
    return ConfiguredProgram(
        name=name,
        argv=argv,
        query=about.get("query") or ("argument" if any(QUERY in element for element in argv) else "stdin"),
        env=dict(about.get("env", {})),
        terminal=_terminal(about.get("terminal", False)),
        stop_signal=_signal(about.get("stop_signal", "TERM")),
        grace_seconds=None if grace is None else float(grace),
        directory=about.get("directory"),
        resumable=about.get("resumable", False),
    )


def _terminal(value: bool | dict[str, int]) -> Mapping[str, int] | None:
    if isinstance(value, dict):
        return dict(value)
    return dict(USUAL_TERMINAL) if value else None


def _signal(name: str) -> int:
    return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
