"""How gunicorn runs the web tier; it finds this file by itself. Nothing here may import what gevent must patch first."""

from __future__ import annotations

import gc
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from gunicorn.glogging import Logger

from core.settings import hand_over
from core.start import begin

_settings = begin("web")  # the master; web processes are forks of it and begin anew
_numbers = _settings.prometheus_multiproc_dir
_own_numbers: Path | None = None
if _numbers is None and _settings.web_concurrency > 1:
    # Platforms say how many processes there are, and nobody says where they share their numbers: without a place
    # each scrape would show another process's.
    with suppress(OSError):  # nowhere to write
        _numbers = _own_numbers = Path(mkdtemp(prefix="jelmore-metrics-"))
        hand_over("PROMETHEUS_", {"PROMETHEUS_MULTIPROC_DIR": str(_numbers)})
gc.disable()  # until the application stands (core.start)
_GOODBYE_SECONDS = 3.0


class Lines(Logger):  # type: ignore[misc]
    """gunicorn's own lines, in the shape of all others."""

    def setup(self, cfg: Any) -> None:
        """Hand its lines on to where all lines go. Its lines about requests go nowhere."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True


logger_class = Lines

bind = f"{_settings.api_host}:{_settings.listen_port}"
worker_class = "gevent"
workers = _settings.web_concurrency
worker_connections = _settings.worker_connections
# A recycled process would cut every stream it serves.
max_requests = 0
# Not for long requests, which may last for days: for a process whose loop stands still.
timeout = 60
graceful_timeout = _settings.graceful_timeout_seconds
# Longer than a platform's router keeps its connections, which else meets one that was just closed.
keepalive = 100
# Since 25.1 gunicorn opens a control socket in the home directory, shared by every gunicorn of one user.
control_socket_disable = True
# The application writes one access line a request itself.
accesslog = None
# Nobody tells gunicorn the scheme, or a path (SCRIPT_NAME) other than the one asked for: TRUSTED_PROXY_HOPS says whom the
# application believes.
forwarded_allow_ips = ""


def on_starting(_server: Any) -> None:
    """Forget the numbers of a former run: they would be added to ours."""
    for left in _numbers.glob("*.db") if _numbers else ():
        left.unlink(missing_ok=True)


def when_ready(_server: Any) -> None:
    """Let the master collect its garbage again."""
    gc.enable()


def post_fork(_server: Any, _worker: Any) -> None:
    """Collect none while a web process imports the application."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Bound what a connection may cost, and tell the streams to come again elsewhere as soon as this process is to leave.

    gunicorn has no hook for the latter: its own graceful stop waits for the streams, and then cuts them without a word.
    """
    import gevent  # patched by now

    from app.connections import guard
    from core import metrics
    from core.start import collect_from_here

    collect_from_here()
    metrics.serve("web", None)
    guard(worker, _settings)

    def watch() -> None:
        while worker.alive:
            gevent.sleep(0.2)
        worker.wsgi.extensions["jelmore"].hub.goodbye()

    gevent.spawn(watch)


def worker_exit(_server: Any, worker: Any) -> None:
    """See the streams off: gunicorn knows nothing of them, their connections are not its own any more."""
    if (app := worker.wsgi) is not None:
        hub = app.extensions["jelmore"].hub
        hub.goodbye()
        hub.see_off(_GOODBYE_SECONDS)


def child_exit(_server: Any, worker: Any) -> None:
    """Take a gone process's gauges out of the sum."""
    if _numbers:
        from prometheus_client import multiprocess  # only here, in the master: a web process imports it after patching

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:
    """Remove the numbers, if the place is our own."""
    if _own_numbers:
        rmtree(_own_numbers, ignore_errors=True)
