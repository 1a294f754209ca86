"""A keeper without a worker: what it takes of memory at its start, and how many processes a second it begins and clears away.

`python -m benchmarks.spawning COUNT` prints both as JSON. Patched by gevent, as a worker is. Lanes spawn, wait for the exit and for
the word that nothing is left, and spawn again.
"""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import AsyncResult

from benchmarks.samples import PROGRAM
from core.ids import uuid7
from runner.keeper_link import Ears, KeeperLink, SpawnRequest

if TYPE_CHECKING:
    from runner.supervision import Exit

LANES: Final = 16
SECONDS: Final = 60


class Lanes:
    """Who waits for which process to be gone."""

    def __init__(self) -> None:
        self.incarnation = uuid7().int & 0xFFFFFF
        self.link = KeeperLink.start(self.incarnation, Ears(self._exited, self._empty, lambda *_: None, lambda: None))
        self._gone: dict[int, AsyncResult] = {}

    def _exited(self, tag: int, _: Exit) -> None:
        self.link.end(tag)

    def _empty(self, tag: int) -> None:
        self._gone.pop(tag).set()

    def run(self, lane: int, count: int) -> None:
        """Spawn so many processes, one after the other."""
        null, directory = os.open(os.devnull, os.O_RDWR), os.open("/", os.O_PATH)
        for number in range(count):
            tag = self.incarnation << 16 | (lane * count + number)
            gone = self._gone[tag] = AsyncResult()
            self.link.spawn(SpawnRequest(tag, (PROGRAM,), {}, directory, (null, null, null)))
            gone.get(timeout=SECONDS)


def measure(count: int) -> dict[str, float]:
    """Return the keeper's resident kB at its start, and processes a second."""
    lanes = Lanes()
    lanes.run(LANES, 1)  # it has started by then
    status = Path(f"/proc/{lanes.link.pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    start = time.monotonic()
    gevent.joinall([gevent.spawn(lanes.run, lane, count // LANES) for lane in range(LANES)], raise_error=True)
    rate = count // LANES * LANES / (time.monotonic() - start)
    lanes.link.close()
    return {"resident_kb": resident, "processes_per_second": rate}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
