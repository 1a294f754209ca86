"""Looking over the node for processes that outlived their worker *and* its keeper, and ending them.

Only marks of incarnations that this installation's own database knows as gone, on this host, are acted on: another Jelmore on
the same machine marks its processes too.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NoReturn

import gevent
import structlog

from core import metrics
from core.errors import DatabaseUnavailable
from models import workers
from runner import marks
from runner.world import tag_of

if TYPE_CHECKING:
    from runner.world import World

log = structlog.get_logger(__name__)


def keep_sweeping(world: World) -> NoReturn:
    """Sweep now and then, for good."""
    while True:
        try:
            sweep(world)
        except DatabaseUnavailable:
            log.debug("node not swept: nobody knows who is alive")
        gevent.sleep(world.settings.session_monitoring_interval_seconds)


def sweep(world: World) -> None:
    """End what dead incarnations of this host left behind."""
    with world.database.transaction() as tx:
        dead = {tag_of(incarnation) for incarnation in workers.dead_here(tx, socket.gethostname())}
        dead -= {tag_of(incarnation) for incarnation in workers.alive_incarnations(tx)}
    if not dead:
        return
    # In a thread: reading a few thousand files of /proc would hold up every session.
    killed = gevent.get_hub().threadpool.apply(marks.sweep, (lambda found: found.incarnation in dead,))
    if killed:
        log.error("killed processes that a dead worker left behind", count=killed)
        metrics.ORPHANS_KILLED.inc(killed)
