"""Programs from the distribution: the installed one, or unpacked into a folder of the bench's own, without being root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.peers import FOLDER

UNPACKED: Final = FOLDER.with_name(".debian")
FETCH_SECONDS: Final = 120


def had(files: tuple[str, ...], packages: tuple[str, ...]) -> list[Path] | None:
    """Return where these files of /usr are, fetched with their packages if they are not there; None: they cannot be had."""
    return _found(Path("/usr"), files) or _found(UNPACKED / "usr", files) or _fetched(files, packages)


def _found(root: Path, files: tuple[str, ...]) -> list[Path] | None:
    paths = [root / file for file in files]
    return paths if all(path.exists() for path in paths) else None


def _fetched(files: tuple[str, ...], packages: tuple[str, ...]) -> list[Path] | None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    UNPACKED.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", *packages]
    try:
        subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, capture_output=True, cwd=UNPACKED)
        for package in UNPACKED.glob("*.deb"):
            unpack = ["dpkg-deb", "-x", str(package), str(UNPACKED)]
            subprocess.run(unpack, check=True, timeout=FETCH_SECONDS, capture_output=True, env={"PATH": os.defpath})
    except (OSError, subprocess.SubprocessError):
        return None
    return _found(UNPACKED / "usr", files)
