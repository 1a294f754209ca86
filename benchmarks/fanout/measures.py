"""Fan-out: what one process makes of one message for a thousand readers. A run with a gap or a repeat is void."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.building import built
from benchmarks.samples import Void

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from benchmarks.fanout.arms import FanArm, Served

LIMIT_SECONDS: Final = 120
HEALTH_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Crowd:
    """How many follow, how many more stop reading, and what they are sent.

    `window`: messages under way at once; 0: one every 100 ms.
    `asks_health`: another client asks for health meanwhile, which costs a little.
    """

    followers: int
    messages: int
    size: int = 120
    window: int = 1
    stalled: int = 0
    asks_health: bool = False


def fan_out(arm: FanArm, addresses: dict[str, str], home: Path, crowd: Crowd) -> dict[str, float] | None:
    """Return what `load.c` measures of an arm; None where one of the two cannot be had. Raises Void."""
    program = built("fanout/load")
    if program is None:
        return None
    with arm.served(addresses, home, crowd.size) as served:
        if served is None:
            return None
        files = _written(served, home)
        asked = (crowd.messages, crowd.window, crowd.stalled, LIMIT_SECONDS)
        words = [served.port, files[0], crowd.followers, served.publish_port, *files[1:], *asked]
        command = [str(program), *map(str, words), *map(str, served.pids)]
        with Health(served.port, asks=crowd.asks_health) as health:
            run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=2 * LIMIT_SECONDS)
        if run.returncode:
            raise Void(run.stderr.strip()[-300:] or f"the load client ended with {run.returncode}")
        found: dict[str, float] = json.loads(run.stdout)
        return found | health.found()


def _written(served: Served, home: Path) -> list[Path]:
    texts = {"request": served.request, "greeting": served.greeting, "template": served.template}
    for name, text in texts.items():
        (home / name).write_bytes(text)
    return [home / name for name in texts]


class Health:
    """Asks for health again and again meanwhile."""

    def __init__(self, port: int, *, asks: bool) -> None:
        self._url = f"http://127.0.0.1:{port}/health/live"
        self._over = threading.Event()
        self._waits: list[float] = []
        self._thread = threading.Thread(target=self._ask, daemon=True) if asks else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def found(self) -> dict[str, float]:
        """Return how long the answers took."""
        if not self._waits:
            return {}
        waits = sorted(self._waits)
        return {"health_p50_ms": 1000 * waits[len(waits) // 2], "health_p99_ms": 1000 * waits[len(waits) * 99 // 100]}

    def _ask(self) -> None:
        while not self._over.wait(HEALTH_PAUSE_SECONDS):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self._url, timeout=10) as answer:
                    answer.read()
            except OSError:
                continue  # it counts as lost in the run itself, if it is
            self._waits.append(time.monotonic() - began)
