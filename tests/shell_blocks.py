"""The shell blocks of the documentation: what a reader would copy.

A block begins with ```` ```sh ````, and works as it stands, behind the ones before it on its page. A word behind that says
otherwise: `endless`: its commands go on until they are stopped; `make`: targets that are looked at, not made; `docker`, `kubectl`,
`heroku`: what they need is not there, so they are looked at for syntax alone, as is `example`, which names something of others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
ELSEWHERE: Final = ("docker", "kubectl", "heroku")
MARKS: Final = ("", "endless", "make", "example", *ELSEWHERE)
SHELLS: Final = ("sh", "bash", "shell", "console")


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of shell. `mark`: how it is run, if it is not as it stands. `heading`: what it stands under."""

    page: str
    line: int
    heading: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """Return its commands, one a line, without comments of whole lines."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def blocks(page: str) -> list[Block]:
    """Return a page's shell blocks, in order."""
    found: list[Block] = []
    heading, opened, lines = "", None, list[str]()
    for number, line in enumerate((ROOT / page).read_text().splitlines(), start=1):
        if opened is not None:
            if line.strip() == "```":
                found.append(_block(Block(page, opened[0], heading, opened[1], "\n".join(lines) + "\n")))
                opened = None
            else:
                lines.append(line)
        elif fence := re.fullmatch(r"```(\S+) ?(.*)", line.strip()):
            if fence[1] in SHELLS:
                opened, lines = (number, fence[2]), []
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return found


def _block(found: Block) -> Block:
    """Mark a block that begins with a program of elsewhere, though nobody did."""
    first = found.commands()[0].split()[0] if found.commands() else ""
    return replace(found, mark=first) if not found.mark and first in ELSEWHERE else found
