"""The worker's side of its keeper (`runner.keeper`): starting it, giving orders, hearing what it reports.

Orders may be given from gevent's loop: they are queued and never block. Reports are handed on in the loop, to callbacks that
do not block either. Only `spawn` and `close` wait, each with a limit.
"""

from __future__ import annotations

import _socket
import array
import marshal
import os
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gevent
import structlog
from gevent import get_hub
from gevent.event import AsyncResult, Event

from core.errors import SpawnFailed
from core.vital import loudly, spawn_vital
from runner import marks
from runner.supervision import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.users import User

log = structlog.get_logger(__name__)

SPAWN_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0
CHUNK: Final = 65536
READABLE, WRITABLE = 1, 2  # libev's event bits


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """What the keeper executes. `limits` are (RLIMIT_…, soft, hard); a terminal is one descriptor, pipes are three."""

    tag: int
    argv: tuple[str, ...]
    env: dict[str, str]
    directory: int
    """Descriptor of where it starts: a name could mean something else by then."""
    descriptors: tuple[int, ...]
    terminal: bool = False
    limits: tuple[tuple[int, int, int], ...] = ()
    nice: int = 0
    max_processes: int = 0
    user: User | None = None
    sandboxed: str | None = None
    """Path of the program, if argv is the sandbox's."""


@dataclass(frozen=True, slots=True)
class Ears:
    """Whom to tell. All are called in the loop, but `lost`, which has a greenlet of its own."""

    exited: Callable[[int, Exit], None]
    empty: Callable[[int], None]
    too_many: Callable[[int, int], None]
    lost: Callable[[], None]
    """The keeper died; everything it kept is killed and reaped."""


class KeeperLink:
    """One keeper process and the socket to it."""

    def __init__(self, pid: int, channel: _socket.socket, incarnation_tag: int, ears: Ears) -> None:
        self.pid = pid
        self.leased_until = 0.0
        self._channel = channel
        self._incarnation_tag = incarnation_tag
        self._ears = ears
        self._orders: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._incoming = bytearray()
        self._spawns: dict[int, AsyncResult] = {}
        self._requests = 0
        self._closing = False
        self._gone = Event()
        loop = get_hub().loop
        self._reader = loop.io(channel.fileno(), READABLE)
        self._writer = loop.io(channel.fileno(), WRITABLE)
        self._reader.start(loudly(self._receive))

    @classmethod
    def start(cls, incarnation_tag: int, ears: Ears) -> KeeperLink:
        """Start a keeper. posix_spawn: a fork of the whole worker would hold up every session."""
        ours, theirs = (_raw(end) for end in socket.socketpair())
        os.set_inheritable(theirs.fileno(), True)
        keeper = str(Path(__file__).with_name("keeper.py"))
        command = [sys.executable, "-I", "-S", keeper, str(theirs.fileno())]
        pid = os.posix_spawn(sys.executable, command, {}, setsid=True, setsigdef=[signal.SIGPIPE])
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours, incarnation_tag, ears)

    # Orders.

    def spawn(self, request: SpawnRequest) -> int:
        """Start a process and return its pid. Blocks the calling greenlet. Raises SpawnFailed."""
        self._requests += 1
        number, answer = self._requests, AsyncResult()
        self._spawns[number] = answer
        user = request.user and (request.user.uid, request.user.gid, list(request.user.groups))
        order = (
            *("spawn", number, request.tag, list(request.argv), request.env, list(request.limits)),
            *(request.nice, request.terminal, request.max_processes, user, request.sandboxed),
        )
        self._order(order, (*request.descriptors, request.directory))
        try:
            pid: int = answer.get(timeout=SPAWN_SECONDS)
        except gevent.Timeout:
            self.end(request.tag)
            raise SpawnFailed("the keeper did not answer in time") from None
        finally:
            del self._spawns[number]
        return pid

    def signal(self, tag: int, number: int, *, whole: bool = False) -> None:
        """Signal a session's main process group, or every process it has."""
        self._order(("signal", tag, int(number), whole))

    def end(self, tag: int) -> None:
        """Kill everything of a session; `empty` is told when nothing is left."""
        self._order(("end", tag))

    def lease(self, deadline: float) -> None:
        """Have it kill everything at that instant (`boottime`), unless a later lease comes before."""
        self.leased_until = deadline
        self._order(("lease", deadline))

    def _order(self, message: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        body = marshal.dumps(message)
        self._orders.append((len(body).to_bytes(4, "big") + body, descriptors))
        if len(self._orders) == 1:
            self._send()

    def _send(self) -> None:
        """Send what the socket takes; descriptors go with the first byte of their message."""
        self._writer.stop()
        while self._orders:
            body, descriptors = self._orders[0]
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            try:
                sent = self._channel.sendmsg([body], ancillary)
            except BlockingIOError:
                self._writer.start(loudly(self._send))
                return
            except OSError:
                return  # the reader finds out that the keeper is gone
            self._orders.popleft()
            if sent < len(body):
                self._orders.appendleft((body[sent:], ()))

    # Reports.

    def _receive(self) -> None:
        try:
            chunk = self._channel.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._lose()
            return
        self._incoming += chunk
        while len(self._incoming) >= 4 and len(self._incoming) >= (
            end := 4 + int.from_bytes(self._incoming[:4], "big")
        ):
            message = marshal.loads(bytes(self._incoming[4:end]))  # noqa: S302  (from our own child)
            del self._incoming[:end]
            self._hear(*message)

    def _hear(self, name: str, *facts: Any) -> None:
        match name, facts:
            case "spawned", (request, pid):
                self._answer(request, pid=pid)
            case "failed", (request, number, step):
                self._answer(request, fault=SpawnFailed(f"{step}: {os.strerror(number) if number else 'failed'}"))
            case "exited", (tag, code, number):
                self._ears.exited(tag, Exit(code, _signal_name(number)))
            case "empty", (tag,):
                self._ears.empty(tag)
            case "many", (tag, count):
                self._ears.too_many(tag, count)

    def _answer(self, request: int, *, pid: int | None = None, fault: SpawnFailed | None = None) -> None:
        waiting = self._spawns.get(request)
        if waiting is None:
            return  # it gave up waiting; the session's end was ordered
        if fault is not None:
            waiting.set_exception(fault)
        else:
            waiting.set(pid)

    # The end of a keeper.

    def _lose(self) -> None:
        self._reader.stop()
        self._writer.stop()
        self._reader.close()
        self._writer.close()
        self._channel.close()
        spawn_vital("keeper's death", self._clear_up)

    def _clear_up(self) -> None:
        """Whatever the dead keeper kept is this process's now, which is a subreaper: kill it, reap it, say so."""
        gevent.get_hub().threadpool.apply(marks.sweep, (lambda found: found.incarnation == self._incarnation_tag,))
        self._reap()
        for waiting in list(self._spawns.values()):
            waiting.set_exception(SpawnFailed("the keeper died"))
        self._gone.set()
        if not self._closing:
            self._ears.lost()

    def _reap(self) -> None:
        """Reap the keeper, which may take a moment to be gone after its socket is, and what became ours with it."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with suppress(ChildProcessError):
            while time.monotonic() < deadline:
                pid = os.waitpid(-1, os.WNOHANG)[0]
                if pid == 0:  # children, but none that is gone yet
                    gevent.sleep(0.005)

    def kill(self) -> None:
        """Kill the keeper itself: it does not do its work. `lost` follows."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Have the keeper end everything and leave; wait for it, but not for ever."""
        self._closing = True
        if self._gone.is_set():
            return
        with suppress(OSError):
            self._channel.shutdown(_socket.SHUT_WR)
        deadline = time.monotonic() + CLOSE_SECONDS
        if not self._gone.wait(timeout=deadline - time.monotonic()):
            log.error("the keeper does not leave; killing it", keeper=self.pid)
            self.kill()
            self._gone.wait(timeout=CLOSE_SECONDS)


def _raw(end: socket.socket) -> _socket.socket:
    """Return the socket without gevent's cooperation: its blocking is this module's own business."""
    return _socket.socket(fileno=end.detach())


def _signal_name(number: int | None) -> str | None:
    if number is None:
        return None
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)  # a real-time signal


def boottime() -> float:
    """Return seconds since boot, time asleep included: the clock the lease is told in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
