"""nginx with nchan from the distribution: the installed one, or unpacked into a folder of the bench's own, without being root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers import FOLDER

CONFIGURATION: Final = Path(__file__).with_name("peers") / "nchan.conf"
UNPACKED: Final = FOLDER.with_name(".debian")
MODULE: Final = "lib/nginx/modules/ngx_nchan_module.so"
PACKAGES: Final = ("nginx", "libnginx-mod-nchan")
FETCH_SECONDS: Final = 120


def command(home: Path, port: int) -> list[str] | None:
    """Return what starts it; None, and a word, where it cannot be had."""
    found = _found(Path("/usr")) or _found(UNPACKED / "usr") or _fetched()
    if found is None:
        print("nchan cannot be had; that arm is left out.", file=sys.stderr)
        return None
    nginx, module = found
    folder = home / "nchan"
    folder.mkdir(exist_ok=True)
    text = CONFIGURATION.read_text()
    for name, value in (("MODULE", module), ("FOLDER", folder), ("PORT", port)):
        text = text.replace(name, str(value))
    (folder / "nginx.conf").write_text(text)
    return [str(nginx), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]


def _found(root: Path) -> tuple[Path, Path] | None:
    nginx, module = root / "sbin" / "nginx", root / MODULE
    return (nginx, module) if nginx.exists() and module.exists() else None


def _fetched() -> tuple[Path, Path] | None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    UNPACKED.mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "download", *PACKAGES]
    try:
        subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, capture_output=True, cwd=UNPACKED)
        for package in UNPACKED.glob("*.deb"):
            unpack = ["dpkg-deb", "-x", str(package), str(UNPACKED)]
            subprocess.run(unpack, check=True, timeout=FETCH_SECONDS, capture_output=True, env={"PATH": os.defpath})
    except (OSError, subprocess.SubprocessError):
        return None
    return _found(UNPACKED / "usr")
