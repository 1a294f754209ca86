"""The two programs in C that the fan-out is measured with: built once into benchmarks/.peers, with whatever C compiler there is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers import FOLDER

HERE: Final = Path(__file__).parent
BUILD_SECONDS: Final = 60


def built(name: str) -> Path | None:
    """Return a program's path, built if it is older than its source; None, and a word, where it cannot be built."""
    source, program = HERE / f"{name}.c", FOLDER.with_name(".built") / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print("There is no C compiler: the fan-out is left out.", file=sys.stderr)
        return None
    program.parent.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(source)]
    made = subprocess.run(command, check=False, timeout=BUILD_SECONDS, capture_output=True, text=True)
    if made.returncode:
        print(f"{source.name} cannot be built; the fan-out is left out.\n{made.stderr[-500:]}", file=sys.stderr)
        return None
    return program
