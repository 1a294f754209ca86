"""The web tiers that are measured by requests: each on one and on two processes, with a real worker to take what it sends."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from benchmarks import peers
from benchmarks.arms import installation
from benchmarks.client import SESSIONS
from core.settings import environment
from jelmore.embedded.server import free_port
from tasks.queue import SESSIONS as STARTS

if TYPE_CHECKING:
    from benchmarks.processes import Running

COUNTED: Final = "100000000/hour"
"""Limits that are counted, and never reached."""
LIMITED: Final = ("GLOBAL", "SESSION_CREATION")
FLOWERS: Final = "bench.flowers"
"""The task that Flower sends, and its queue: Flower is an arm beside Jelmore's, on the same broker."""
FLOWER: Final = f"/api/task/async-apply/{FLOWERS}"
QUERY: Final = json.dumps({"query": "true", "user_id": "bench", "metadata": {"from": "the bench"}})
OWN: Final = "DATABASE_URL", "REDIS_URL"


@dataclass(frozen=True)
class Front:
    """One web tier. `tables`: where each session it makes has a row; `taker`: the command of a real worker for its tasks."""

    name: str
    processes: int | None
    """None: it has one and no more."""
    port: int
    root: int
    path: str = SESSIONS
    body: str = QUERY
    tables: tuple[str, ...] = ()
    taker: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


class Fronts:
    """Starts them."""

    def __init__(self, running: Running, addresses: dict[str, str], home: str) -> None:
        self._running = running
        self._addresses = addresses
        self._home = home

    def all(self) -> list[Front]:
        """Start every web tier on one process and on two; those whose packages cannot be had are left out, with a word."""
        starts = [self._jelmore, self._textbook, self._noop, *([self._rival] if peers.install() else [])]
        return [*(start(processes) for processes in (1, 2) for start in starts), self._flower()]

    def _jelmore(self, processes: int) -> Front:
        port = free_port()
        limits = {f"RATE_LIMIT_{rule}": COUNTED for rule in LIMITED}
        env = {**installation(self._addresses, self._home, port), "WEB_CONCURRENCY": str(processes), **limits}
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"]
        tables = ("sessions", "events WHERE event_type = 'session.created'", "audit WHERE action = 'session.create'")
        taker = _celery("benchmarks.taking", STARTS)
        root = self._start(f"jelmore-{processes}", command, env, port)
        return Front("Jelmore", processes, port, root, tables=tables, taker=taker, env=env)

    def _textbook(self, processes: int) -> Front:
        env, port = self._env("textbook"), free_port()
        root = self._start(f"textbook-{processes}", _gunicorn(port, processes), env, port)
        tables = ("textbook_sessions",)
        return Front("textbook", processes, port, root, tables=tables, taker=_celery("jobs", "textbook"), env=env)

    def _noop(self, processes: int) -> Front:
        port = free_port()
        root = self._start(f"noop-{processes}", _gunicorn(port, processes), self._env("noop"), port)
        return Front("no-op", processes, port, root)

    def _rival(self, processes: int) -> Front:
        env, port, python = self._env("rival"), free_port(), str(peers.PYTHON)
        command = [python, "-m", "uvicorn", "web:app", "--host", "127.0.0.1", "--port", str(port)]
        quiet = ["--log-level", "error", "--no-access-log", "--workers", str(processes)]
        root = self._start(f"rival-{processes}", [*command, *quiet], env, port)
        taker = [python, "-m", "arq", "jobs.WorkerSettings"]
        return Front("FastAPI", processes, port, root, tables=("rival_sessions",), taker=taker, env=env)

    def _flower(self) -> Front:
        port = free_port()
        env = {**installation(self._addresses, self._home, port), "FLOWER_UNAUTHENTICATED_API": "true", "TAKEN": "none"}
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.taking", "flower", "--address=127.0.0.1"]
        quiet = [f"--port={port}", "--logging=error"]
        root = self._start("flower", [*command, *quiet], env, port, "/healthcheck")
        taker = _celery("benchmarks.taking", FLOWERS)
        return Front("Flower", None, port, root, FLOWER, json.dumps({"args": ["x"]}), taker=taker, env=env)

    def _env(self, folder: str) -> dict[str, str]:
        path = str(peers.ROOT / "benchmarks" / folder)
        return {"PATH": environment().get("PATH", os.defpath), "PYTHONPATH": path, "TAKEN": "none"} | {
            name: self._addresses[name] for name in OWN
        }

    def _start(self, name: str, command: list[str], env: dict[str, str], port: int, path: str = "/health/live") -> int:
        process = self._running.start(name, command, env)
        self._running.wait_for(name, port, path)
        return process.pid


def _gunicorn(port: int, processes: int) -> list[str]:
    # --no-control-socket: else all of one user's gunicorns share one.
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(processes), "-b", f"127.0.0.1:{port}"]
    return [*command, "--keep-alive", "100", "--no-control-socket", "web:app"]


def _celery(app: str, queue: str) -> list[str]:
    command = [sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", "-P", "solo", "-Q", queue]
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error"]
