"""Put `uv` into a directory of the project with a bare python3: `python3 bootstrap.py .uv 0.13.9`.

Run by the Makefile before anything is installed, so: standard library only, in words that older versions
of Python understand too, for they are told so. First the usual way (a virtual environment and pip); where
python3 came without them (Debian without python3-venv), the wheel is fetched from the index, checked and
unpacked. Nothing is written outside the directory.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 11)
DEFAULT_INDEX = "https://pypi.org/simple"
JSON_INDEX = "application/vnd.pypi.simple.v1+json"
TIMEOUT_SECONDS = 60


def main(arguments: list[str]) -> int:
    target, version = Path(arguments[0]), arguments[1]
    if sys.version_info < OLDEST_PYTHON:
        return refuse(
            f"Jelmore needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and {sys.executable} is "
            f"{platform.python_version()}: name another one, as in `make run PYTHON=python3.12`."
        )
    if has_uv(target, version) or by_pip(target, version):
        return 0
    try:
        by_wheel(target, version)
    except (OSError, ValueError, LookupError) as error:
        return refuse(
            f"uv {version} could not be fetched ({error}). Jelmore is installed with it: check the network, or "
            "PIP_INDEX_URL and SSL_CERT_FILE where there is a mirror or a proxy, and try again."
        )
    return 0


def refuse(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return 1


def has_uv(target: Path, version: str) -> bool:
    try:
        said = subprocess.run([target / "bin" / "uv", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return said.stdout.split()[1:2] == [version]


def by_pip(target: Path, version: str) -> bool:
    """A virtual environment for uv alone. False if python3 came without venv or ensurepip, or pip failed."""
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(target)],
        [*pip, "install", "--no-cache-dir", "uv==" + version],  # no cache: it would lie in the home directory
    ]
    try:
        for step in steps:
            # A plain PATH: pip asks any rustc it finds for its version, and rustup then writes into HOME.
            subprocess.run(step, check=True, capture_output=True, env={**os.environ, "PATH": os.defpath})
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(target, ignore_errors=True)
        return False
    return has_uv(target, version)


def by_wheel(target: Path, version: str) -> None:
    """Fetch the wheel for this machine from the index and unpack the one program in it."""
    page_url = index_url() + "/uv/"
    page = json.loads(fetch(page_url, JSON_INDEX))
    wheel = fitting_wheel(page["files"], version)
    content = fetch(urllib.parse.urljoin(page_url, wheel["url"]), "*/*")
    if hashlib.sha256(content).hexdigest() != wheel["hashes"]["sha256"]:
        raise ValueError(f"the sha256 of {wheel['filename']} is not the one the index names")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        program = target / "bin" / "uv"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes(archive.read(member))
    program.chmod(0o755)


def index_url() -> str:
    given = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX") or DEFAULT_INDEX
    return given.rstrip("/")


def fetch(url: str, accept: str) -> bytes:
    """SSL_CERT_FILE and the proxy variables are honoured by the library itself."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(  # noqa: S310 - the index the user named
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers={"Accept": accept}
    )
    if parts.username is not None:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
        return bytes(answer.read())


def fitting_wheel(files: list[dict[str, Any]], version: str) -> dict[str, Any]:
    system, machine = platform.system(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64" if system == "Darwin" else "aarch64"}.get(machine, machine)
    kind = "macosx" if system == "Darwin" else "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    for file in files:
        name = file["filename"]
        if name.startswith(f"uv-{version}-") and kind in name and name.endswith(machine + ".whl"):
            return file
    raise LookupError(f"the index has no uv {version} for {kind} {machine}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
