"""Whether a session may start in a directory, as far as this machine can see. The worker checks again, on its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DirectoryNotAllowed

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(wanted: str, roots: Sequence[Path]) -> None:
    """Raise DirectoryNotAllowed for what is outside the roots, symlinks followed, or visibly no directory."""
    if not Path(wanted).is_absolute():
        raise DirectoryNotAllowed("The directory must be an absolute path.")
    real = Path(os.path.realpath(wanted))
    holding = [root for root in map(_real, roots) if real.is_relative_to(root)]
    if not holding:
        raise DirectoryNotAllowed
    # Where the root itself is not to be seen, sessions run on another machine.
    if any(map(_is_directory, holding)) and not _is_directory(real):
        raise DirectoryNotAllowed("There is no such directory.")


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises for a name that is too long)


def _real(root: Path) -> Path:
    return Path(os.path.realpath(root))
