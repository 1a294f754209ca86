"""The version of this service, and which code of it runs."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

VERSION: Final = version("jelmore")
PACKAGES: Final = ("core", "models", "runner", "streams", "tasks")
"""What a worker runs: another web tier makes no worker old."""


@lru_cache(maxsize=1)
def build() -> str:
    """Return the version and a digest of a worker's source files, as they were when this process asked first.

    The version alone changes with releases; what is forgotten at three in the morning is to restart a worker after any change.
    """
    digest = sha256()
    root = Path(__file__).resolve().parent.parent
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return f"{VERSION}+{digest.hexdigest()[:8]}"
