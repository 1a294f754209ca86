"""The packages of the afternoon's work, in a folder of their own: arq needs a Redis client that Celery refuses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from core.settings import environment

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "benchmarks" / ".peers"
PYTHON: Final = FOLDER / "bin" / "python"
PACKAGES: Final = (
    "fastapi",
    "uvicorn[standard]",
    "sse-starlette",
    "arq",
    "asyncpg",
    "flask-sse",
    "flask-sock",
    "gunicorn",
    "gevent",
    "packaging",
)
INSTALLED: Final = FOLDER / "installed"
INSTALL_SECONDS: Final = 180


def install() -> bool:
    """Install what is not yet there; False, and a word, where it cannot be had."""
    wanted = "\n".join(PACKAGES)
    if INSTALLED.exists() and INSTALLED.read_text() == wanted:
        return True
    print("Installing the afternoon's packages into benchmarks/.peers", file=sys.stderr, flush=True)
    try:
        for step in _steps():
            subprocess.run(step, check=True, timeout=INSTALL_SECONDS, capture_output=True, env=_environment())
    except (OSError, subprocess.SubprocessError) as why:
        print(f"The afternoon's packages cannot be had ({why}); that arm is left out.", file=sys.stderr)
        return False
    INSTALLED.write_text(wanted)
    return True


def _steps() -> tuple[list[str], list[str]]:
    """Return the commands that make the folder and fill it: with uv, or with Python's own means."""
    own = ROOT / ".uv" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        return (
            [sys.executable, "-m", "venv", "--clear", str(FOLDER)],
            [str(PYTHON), "-m", "pip", "install", "--quiet", *PACKAGES],
        )
    return (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER)],
        [uv, "pip", "install", "--quiet", "--python", str(PYTHON), *PACKAGES],
    )


def _environment() -> dict[str, str]:
    """Return our environment without a virtual environment that happens to be active: uv would install there."""
    return {name: value for name, value in environment().items() if name != "VIRTUAL_ENV"}
