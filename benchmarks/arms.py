"""The things that are measured, started as real processes on free ports and always stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.settings import environment, load_settings
from jelmore.embedded import Postgres, Valkey
from jelmore.embedded.server import free_port
from jelmore.processes import dies_with_parent
from migrations.__main__ import upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
PEERS: Final = ROOT / "benchmarks" / ".peers"
PEER_PACKAGES: Final = ("fastapi", "uvicorn[standard]", "sse-starlette", "arq")
KEY: Final = "bench-key"
READY_SECONDS: Final = 30.0
SLOTS: Final = 200


@dataclass
class Arm:
    """One installation that is measured over HTTP."""

    name: str
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def worker(self) -> int:
        """Return the pid of its worker."""
        return self.processes[1].pid


class Running:
    """Starts processes; stops them all, whatever happens."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to a file in the home."""
        with (self._home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """Ask all to leave, the last started first; kill what stays."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def servers(home: Path) -> Iterator[dict[str, str]]:
    """Start Valkey and PostgreSQL, durable as in production; hand out their addresses."""
    started = [Valkey(home), Postgres(home)]
    try:
        for server in started:
            server.launch()
        for server in started:
            server.wait_ready()
        yield {server.setting: server.url for server in started}
    finally:
        for server in started:
            server.stop()


def jelmore(running: Running, addresses: dict[str, str], home: Path) -> Arm:
    """Start Jelmore: one web process, one worker, beat."""
    upgrade(load_settings(addresses).database_url)
    port = free_port()
    env = {
        "PATH": environment().get("PATH", os.defpath),
        **addresses,
        "JELMORE_HOME": str(home / "jelmore"),
        "API_HOST": "127.0.0.1",
        "PORT": str(port),
        "API_KEYS": json.dumps({KEY: {"permissions": ["admin"]}}),
        "WORKER_SLOTS": str(SLOTS),
        "MAX_CONCURRENT_SESSIONS": "1000000",
        "LOG_LEVEL": "WARNING",
        **{f"RATE_LIMIT_{rule}": "" for rule in ("GLOBAL", "AUTHENTICATION", "SESSION_CREATION", "STREAMING")},
    }
    web = [*("gunicorn", "-k", "gevent", "-c", "gunicorn.conf.py", "--access-logfile", "/dev/null", "app:create_app()")]
    arm = Arm("Jelmore", port)
    for name, command in (("web", web), ("worker", ["tasks.worker"]), ("beat", ["tasks.beat"])):
        arm.processes.append(running.start(name, [sys.executable, "-m", *command], env))
    wait_for(port)
    return arm


def afternoon(running: Running, addresses: dict[str, str]) -> Arm | None:
    """Start the afternoon's work, or None where its packages cannot be had."""
    if not install_peers():
        return None
    port = free_port()
    folder = str(ROOT / "benchmarks" / "afternoon")
    env = {"PATH": environment().get("PATH", os.defpath), "REDIS_URL": addresses["REDIS_URL"], "PYTHONPATH": folder}
    python = str(PEERS / "bin" / "python")
    web = [python, "-m", "uvicorn", "web:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    worker = [python, "-m", "arq", "jobs.WorkerSettings"]
    arm = Arm("afternoon", port)
    arm.processes = [running.start("peer-web", web, env), running.start("peer-worker", worker, env)]
    wait_for(port)
    return arm


def install_peers() -> bool:
    """Install the peers into a folder of their own: arq needs a Redis client that Celery refuses."""
    if (PEERS / "installed").exists():
        return True
    uv = next((str(path) for path in (ROOT / ".uv" / "bin" / "uv",) if path.exists()), "uv")
    steps = (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)],
        [uv, "pip", "install", "--quiet", "--python", str(PEERS / "bin" / "python"), *PEER_PACKAGES],
    )
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=180, capture_output=True)
    except (OSError, subprocess.SubprocessError) as why:
        print(f"The afternoon's packages cannot be had ({why}); it is left out.", file=sys.stderr)
        return False
    (PEERS / "installed").touch()
    return True


def wait_for(port: int) -> None:
    """Wait until a web process answers."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
