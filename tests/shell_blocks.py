"""The shell blocks of the documentation: what a reader would copy.

A block begins with ```` ```sh ````, and works as it stands, behind the ones before it on its page. A word behind that says
otherwise:

* `endless`: its commands go on until they are stopped;
* `slow`: run in the suite's full length alone;
* `make`: targets that are looked at, not made;
* `example`: names something of the reader's own; looked at for syntax alone, as are
* `docker`, `kubectl`, `heroku`: what they need is not there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
ELSEWHERE: Final = ("docker", "kubectl", "heroku")
MARKS: Final = ("", "endless", "slow", "make", "example", *ELSEWHERE)
SHELLS: Final = ("sh", "bash", "shell", "console")


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines between fences. `language`: empty if it does not say. `heading`: what it stands under."""

    page: str
    line: int
    heading: str
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """Return its commands, one a line, without comments of whole lines."""
        joined = self.text.replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def fenced(page: str) -> list[Block]:
    """Return all that stands between fences on a page, in order."""
    found: list[Block] = []
    heading, opened, lines = "", None, list[str]()
    for number, line in enumerate((ROOT / page).read_text().splitlines(), start=1):
        fence = re.fullmatch(r"```(\S*) ?(.*)", line.strip())
        if opened is None and fence:
            opened, lines = Block(page, number, heading, fence[1], fence[2], ""), []
        elif opened is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif opened is not None and line.strip() == "```":
            found.append(replace(opened, text="\n".join([*lines, ""])))
            opened = None
        elif opened is not None:
            lines.append(line)
    return found


def blocks(page: str) -> list[Block]:
    """Return a page's shell blocks, in order."""
    return [_marked(block) for block in fenced(page) if block.language in SHELLS]


def _marked(block: Block) -> Block:
    """Mark a block that begins with a program of elsewhere, though nobody did."""
    first = next(iter(block.commands()), "").partition(" ")[0]
    return replace(block, mark=first) if not block.mark and first in ELSEWHERE else block
