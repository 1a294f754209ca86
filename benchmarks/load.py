"""A load that costs its machine little: prepared requests over keep-alive connections, each answered before the next is sent.

A process of its own (`python -m benchmarks.load`, the order as JSON on standard input), so that the bench's other threads
are not in its way. It looks at an answer's status and length and at nothing else. Beside its own rate it reads from /proc
what the servers' processes used of the processors meanwhile, which other load on the machine does not change.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.client import HEADERS
from benchmarks.samples import Void, quantiles

CONNECTIONS: Final = 16
WARM_SECONDS: Final = 0.4
PATIENCE_SECONDS: Final = 10.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
RECEIVE_BYTES: Final = 65536


@dataclass(frozen=True)
class Order:
    """What is to be sent: connection N sends path N, N + 16, … in turn. `watched`: processes, with all below them, by a name."""

    port: int
    method: str
    paths: list[str]
    body: str
    seconds: float
    watched: dict[str, list[int]]


@dataclass(frozen=True)
class Load:
    """What came of it. `answered`: all 2xx, those of the warming up too; `cpu`: seconds by name while it was measured."""

    answered: int
    measured: int
    seconds: float
    milliseconds: dict[str, float]
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        """Return answers a second."""
        return self.measured / self.seconds

    def microseconds(self, *names: str) -> float:
        """Return what one answer cost these processes."""
        return 1e6 * sum(self.cpu[name] for name in names) / max(1, self.measured)


def put(order: Order) -> Load:
    """Send it all from a process of its own. Raises Void where an answer was no 2xx or did not come."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        timeout=order.seconds + 3 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Void(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"the load ended with {done.returncode}"
        )
    return Load(**json.loads(done.stdout))


class _Lane:
    """One connection."""

    def __init__(self, order: Order, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", order.port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        mine = order.paths[number::CONNECTIONS] or order.paths
        self._requests = [_request(order, path) for path in mine]
        self._turn = 0
        self._received = b""
        self.sent_at = 0.0

    def send(self) -> None:
        self._received = b""
        self.sent_at = time.monotonic()
        self.socket.sendall(self._requests[self._turn % len(self._requests)])
        self._turn += 1

    def is_answered(self) -> bool:
        """Take what has come; return whether that is the whole answer."""
        piece = self.socket.recv(RECEIVE_BYTES)
        self._received += piece
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not piece or (found and not head.startswith(b"HTTP/1.1 2")):
            raise Void(f"answered {(head + b' ' + body)[:300]!r}")
        return bool(found) and len(body) >= _length(head)


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        raise Void(f"an answer without a length: {head[:300]!r}")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0])


def _request(order: Order, path: str) -> bytes:
    body = order.body.encode()
    headers = {"Host": "bench", **HEADERS, "Content-Length": str(len(body))}
    if not body:
        del headers["Content-Type"], headers["Content-Length"]
    lines = [f"{order.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def processor_seconds(roots: list[int]) -> float:
    """Return what these processes and those below them have used so far."""
    below: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                members = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(members[1]), []).append(int(entry.name))
            used[int(entry.name)] = (int(members[11]) + int(members[12])) / TICKS
    total, left = 0.0, list(roots)
    while left:
        pid = left.pop()
        total += used.get(pid, 0.0)
        left += below.get(pid, [])
    return total


def run(order: Order) -> Load:
    """Send, and measure after a moment of warming up."""
    lanes = {lane.socket.fileno(): lane for lane in (_Lane(order, number) for number in range(CONNECTIONS))}
    poll = select.epoll()
    for number, lane in lanes.items():
        poll.register(number, select.EPOLLIN)
        lane.send()
    warm = _until(lanes, poll, time.monotonic() + WARM_SECONDS)
    before = {name: processor_seconds(roots) for name, roots in order.watched.items()}
    own, start = time.process_time(), time.monotonic()
    delays = _until(lanes, poll, start + order.seconds)
    seconds, own = time.monotonic() - start, time.process_time() - own
    cpu = {name: processor_seconds(roots) - before[name] for name, roots in order.watched.items()}
    # What is still under way is waited for: whoever counts rows counts its row.
    last = _until(lanes, poll, 0.0)
    return Load(len(warm) + len(delays) + len(last), len(delays), seconds, quantiles(delays), {**cpu, "load": own})


def _until(lanes: dict[int, _Lane], poll: select.epoll, end: float) -> list[float]:
    """Send until a time, and return the answers' milliseconds. Time 0: send nothing more, take what is due."""
    delays, due = [], len(lanes) if not end else 0
    while due if not end else time.monotonic() < end:
        ready = poll.poll(PATIENCE_SECONDS)
        if not ready:
            raise Void(f"no answer within {PATIENCE_SECONDS:.0f} seconds")
        for number, _ in ready:
            lane = lanes[number]
            if lane.is_answered():
                delays.append((time.monotonic() - lane.sent_at) * 1000)
                if end:
                    lane.send()
                else:
                    due -= 1
    return delays


if __name__ == "__main__":
    try:
        print(json.dumps(asdict(run(Order(**json.load(sys.stdin))))))
    except (Void, OSError) as why:
        sys.exit(str(why))
