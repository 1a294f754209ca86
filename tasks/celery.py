"""The Celery application of this process, for `celery -A tasks …`, Flower, beat and the worker. Importing it connects nothing."""

from __future__ import annotations

import sys

from celery import signals

from core.privacy import close_memory
from core.settings import load_settings
from core.start import begin
from tasks.queue import make_app


def _keep_ours(**_: object) -> None:
    """Leave logging as it is set up: Celery would give its loggers outputs of their own."""


signals.setup_logging.connect(_keep_ours, weak=False)
close_memory()  # whoever is started by `celery -A`
if "flower" in sys.argv:  # it has no module of ours to begin in
    from tasks.flower import prepare  # lazy: Flower's options bring a web server with them

    app = prepare(begin("flower"), sys.argv)
else:
    app = make_app(load_settings())
