"""The installations that are measured over HTTP: Jelmore and the afternoon's work, as real processes on free ports."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis

from benchmarks import peers
from benchmarks.client import KEY, Client
from core.settings import environment, load_settings
from jelmore.embedded.server import free_port
from migrations.__main__ import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.processes import Running

SLOTS: Final = 256
RULES: Final = ("GLOBAL", "AUTHENTICATION", "SESSION_CREATION", "STREAMING", "WEBSOCKET")
UNENDED: Final = "?limit=1&status=initializing&status=active&status=idle&status=waiting_input&status=terminating"


@dataclass(frozen=True)
class Arm:
    """One installation: where it answers, its worker's pid, how to see that all its sessions have ended."""

    name: str
    port: int
    worker: int
    is_quiet: Callable[[], bool]
    end: Callable[[str], None]
    notes: Path | None = None
    """Where its worker notes how late its loop is."""


def installation(addresses: dict[str, str], home: str, port: int, *, slots: int = SLOTS) -> dict[str, str]:
    """Return Jelmore's settings: as in production, but for caps that are out of reach."""
    return {
        "PATH": environment().get("PATH", os.defpath),
        **addresses,
        "JELMORE_HOME": f"{home}/jelmore",
        "API_HOST": "127.0.0.1",
        "PORT": str(port),
        "API_KEYS": json.dumps({KEY: {"permissions": ["admin"]}}),
        "DEFAULT_PROGRAM": "shell",
        "WORKER_SLOTS": str(slots),
        "WORKER_DRAIN_SECONDS": "2",
        "MAX_CONCURRENT_SESSIONS": "1000000",
        "LOG_LEVEL": "WARNING",
    }


def jelmore(running: Running, addresses: dict[str, str], home: Path, *, slots: int = SLOTS) -> Arm:
    """Start Jelmore: one web process, one worker, beat."""
    upgrade(load_settings(addresses).database_url)
    port = free_port()
    env = {**installation(addresses, str(home), port, slots=slots), **{f"RATE_LIMIT_{rule}": "" for rule in RULES}}
    running.start("web", [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"], env)
    notes = home / "loop"
    worker = running.start("worker", [sys.executable, "-m", "benchmarks.watched", str(notes)], env)
    running.start("beat", [sys.executable, "-m", "tasks.beat"], env)
    running.wait_for("web", port)
    return Arm("Jelmore", port, worker.pid, lambda: not _ask(port, "GET", UNENDED), lambda i: _end(port, i), notes)


def _ask(port: int, method: str, path: str) -> object:
    client = Client(port)
    answer: object = client.ask(method, path)
    client.close()
    return answer


def _end(port: int, session_id: str) -> None:
    _ask(port, "DELETE", f"/{session_id}?wait=0")


def afternoon(running: Running, addresses: dict[str, str]) -> Arm | None:
    """Start the afternoon's work, or None where its packages cannot be had."""
    if not peers.install():
        return None
    port = free_port()
    folder = str(peers.ROOT / "benchmarks" / "afternoon")
    env = {"PATH": environment().get("PATH", os.defpath), "REDIS_URL": addresses["REDIS_URL"], "PYTHONPATH": folder}
    python = str(peers.PYTHON)
    web = [python, "-m", "uvicorn", "web:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    running.start("peer-web", web, env)
    worker = running.start("peer-worker", [python, "-m", "arq", "jobs.WorkerSettings"], env)
    running.wait_for("peer-web", port)
    queue = redis.Redis.from_url(addresses["REDIS_URL"])
    # arq takes a job from its queue when the job has ended. Sessions cannot be ended: a `cat` of each round stays.
    stay: set[str] = set()
    return Arm("afternoon", port, worker.pid, lambda: queue.zcard("arq:queue") <= len(stay), stay.add)
