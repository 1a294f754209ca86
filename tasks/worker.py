"""`python -m tasks.worker`: Celery's own worker, patched by gevent before anything else is imported.

With `celery worker -P gevent` gevent patches after kombu took hold of the sleeping kind of sleep; see `tasks.queue`.
"""

# ruff: noqa: E402, I001
from __future__ import annotations

import gc

gc.disable()  # until all is imported (core.start)

from gevent import monkey

monkey.patch_all()

import logging
import os
import resource
import signal
import socket
import sys
import warnings
from typing import TYPE_CHECKING

from celery import signals
from celery.__main__ import main as celery
from celery.exceptions import SecurityWarning
from celery.worker.control import control_command
import gevent
import structlog

from core import metrics
from core.clock import SystemClock
from core.errors import ConfigurationError, DatabaseUnavailable
from core.ids import uuid7
from core.start import CONFIGURATION_FAULTY, begin
from core.tracing import TRACING
from core.version import build
from core.vital import spawn_vital, watch_hub
from models import workers
from models.database import Database
from runner import confinement, marks
from runner.bells import listen
from runner.host import Host
from runner.lease import Lease
from runner.retention import keep_removing
from runner.sweep import keep_sweeping
from runner.world import World
from streams.appender import Appender
from streams.redis import connect
from tasks import correlation
from tasks.capacity import Capacity
from tasks.queue import CONTROL, RUN, SESSIONS, sender
from tasks.runtime import Runtime, install

if TYPE_CHECKING:
    from core.settings import Settings
    from tasks.queue import TaskQueue

log = structlog.get_logger(__name__)

SPARE_TASKS = 32
"""Pool places beside the slots, for tasks that set an event and return; a full gevent pool would block the consumer."""
LEASE_STATEMENT_SECONDS = 2.0


def open_runtime(settings: Settings, node: str, world: World, queue: TaskQueue) -> Runtime:
    """Open everything this worker holds and make it known. The order matters: first alive, then able to be asked."""
    _arrive(world, node)
    host = Host(world)
    lease_database = Database.open(
        settings, gevent=True, pool_size=1, statement_timeout_seconds=LEASE_STATEMENT_SECONDS
    )
    lease = Lease(host, lease_database)
    lease.renew()
    host.open()
    lease.open()
    spawn_vital("node sweep", keep_sweeping, world)
    spawn_vital("workspaces", keep_removing, world)
    spawn_vital("bells", listen, settings, world.incarnation, host.look)
    # If the broker is away, so is the consumer, and finds its queue added when it is back.
    capacity = Capacity(settings.worker_slots, lambda: queue.nudge(node))
    spawn_vital("slots", capacity.keep_consuming)
    return Runtime(host, lease, capacity, queue)


def _arrive(world: World, node: str) -> None:
    arrival = workers.Arrival(
        incarnation=world.incarnation,
        name=world.name,
        host=socket.gethostname(),
        node=node,
        pid=os.getpid(),
        slots=world.settings.worker_slots,
        version=build(),
    )
    with world.database.transaction() as tx:
        workers.arrive(tx, arrival, at=world.clock.at())


def connect_signals(runtime: Runtime) -> None:
    """Let Celery's signals reach the runtime. Handlers run in the hub or the consumer: they never block."""

    def received(sender: object, request: object, **_: object) -> None:
        runtime.consumer = sender
        if getattr(request, "name", None) == RUN:
            runtime.capacity.reserve(sender)

    def ready(sender: object, **_: object) -> None:
        runtime.consumer = sender
        watch_hub()  # from here on: importing Celery's parts stands still for half a second

    def shutting_down(**_: object) -> None:
        gevent.spawn(runtime.drain)

    def revoked(request: object, terminated: bool, expired: bool, **_: object) -> None:
        if getattr(request, "name", None) == RUN and not terminated and not expired:
            gevent.spawn(runtime.end_revoked, request.args[0])  # type: ignore[attr-defined]

    # weak=False: the functions live as long as the process.
    signals.task_received.connect(received, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.task_revoked.connect(revoked, weak=False)
    correlation.connect()


@control_command()
def shutdown(_state: object, **_: object) -> None:
    """Leave as at SIGTERM. Celery's own answer to this, which Flower has a button for, waits for sessions without end."""
    os.kill(os.getpid(), signal.SIGTERM)


def raise_file_limit() -> None:
    """Three pipes a session: take as many descriptors as the system gives. Children get the usual number back."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run one worker incarnation until it is told to leave."""
    settings = begin("worker")
    # Two lines for each bell would bury everything else; what becomes of sessions the host says itself.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Celery warns of workers run by root because of pickle, which is not accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    try:
        confinement.check(settings)
        TRACING.open("worker", settings)
    except ConfigurationError as fault:
        print(fault, file=sys.stderr)
        return CONFIGURATION_FAULTY
    for warning in confinement.warnings(settings) if settings.in_production else ():
        log.warning(warning)
    raise_file_limit()
    marks.become_subreaper()
    incarnation = uuid7()
    # Unique unless the operator names it: two workers of one name on one host would declare each other lost.
    name = settings.worker_name or settings.dyno or f"worker-{os.getpid()}"
    node = f"{name}-{incarnation.hex[-8:]}@{socket.gethostname()}"
    queue = sender(settings)
    world = World(
        settings=settings,
        database=Database.open(settings, gevent=True),
        appender=Appender(connect(settings), settings),
        clock=SystemClock(),
        incarnation=incarnation,
        name=name,
        ask_for_start=lambda session_id, priority: queue.start(session_id, priority=priority),
    )
    try:
        runtime = open_runtime(settings, node, world, queue)
    except DatabaseUnavailable as fault:
        log.critical("the worker cannot start without PostgreSQL", error=str(fault.__cause__))
        return 69
    metrics.serve("worker", settings.metrics_port)
    install(runtime)
    connect_signals(runtime)
    log.info(
        "worker ready to take sessions",
        worker=name,
        incarnation=str(incarnation),
        slots=settings.worker_slots,
    )
    sys.argv = command(settings, node)
    return celery() or 0


def command(settings: Settings, node: str) -> list[str]:
    """Return the command line of Celery's worker."""
    return [
        *("celery", "--quiet", "-A", "tasks.sessions", "worker", "-P", "gevent", "-n", node),
        *("-c", str(settings.worker_slots + SPARE_TASKS), "-Q", f"{SESSIONS},{CONTROL}"),
        *("--without-gossip", "--without-mingle", "-E", "-l", settings.log_level),
    ]


if __name__ == "__main__":
    sys.exit(main())
