"""A keeper without a worker: how many processes a second it begins and clears away; beside it, gevent's own subprocess.

`python -m benchmarks.spawning keeper|gevent COUNT MIB` prints JSON; MIB: what the process that spawns holds.
Patched by gevent, as a worker is, it spawns in lanes, waits for the exit and for the word that nothing is left, and spawns again.
"""

# ruff: noqa: E402
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import AsyncResult

from benchmarks.samples import PROGRAM
from core.ids import uuid7
from runner.keeper_link import Ears, KeeperLink, SpawnRequest

if TYPE_CHECKING:
    from collections.abc import Callable

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


def kept(count: int) -> dict[str, float]:
    """Return what a keeper does: processes a second, the hub's milliseconds for each."""
    lanes = Lanes()
    lanes.run(LANES, 1)  # it has started by then
    found = _timed(lanes.run, count)
    lanes.link.close()
    return found


def forked(count: int) -> dict[str, float]:
    """Return the same of gevent's own subprocess."""

    def lane(_: int, each: int) -> None:
        for _number in range(each):
            subprocess.Popen([PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).wait()

    return _timed(lane, count)


def _timed(lane: Callable[[int, int], None], count: int) -> dict[str, float]:
    start, worked = time.monotonic(), time.thread_time()
    gevent.joinall([gevent.spawn(lane, number, count // LANES) for number in range(LANES)], raise_error=True)
    done = count // LANES * LANES
    hub = 1000 * (time.thread_time() - worked) / done
    return {"processes/s": done / (time.monotonic() - start), "hub ms each": hub}


KINDS: Final = {"keeper": kept, "gevent": forked}


if __name__ == "__main__":
    ballast = b"x" * (int(sys.argv[3]) << 20)
    print(json.dumps(KINDS[sys.argv[1]](int(sys.argv[2]))))
