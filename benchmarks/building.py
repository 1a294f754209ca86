"""The programs in C, where a Python would be what is measured: built once into benchmarks/.built, with what compiler there is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers import FOLDER

HERE: Final = Path(__file__).parent
"""Sources are told by their place below."""
BUILD_SECONDS: Final = 60


def built(name: str) -> Path | None:
    """Return a program's path, built if it is older than its source; None, and a word, where it cannot be built."""
    source = HERE / f"{name}.c"
    program = FOLDER.with_name(".built") / source.stem
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print(f"There is no C compiler: what needs {source.name} is left out.", file=sys.stderr)
        return None
    program.parent.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(source)]
    made = subprocess.run(command, check=False, timeout=BUILD_SECONDS, capture_output=True, text=True)
    if made.returncode:
        print(f"{source.name} cannot be built; what needs it is left out.\n{made.stderr[-500:]}", file=sys.stderr)
        return None
    return program
