"""The Celery application of this process, for `celery -A tasks …`, Flower, beat and the worker. Importing it connects nothing."""

from __future__ import annotations

from core.privacy import close_memory
from core.settings import load_settings
from tasks.queue import make_app

close_memory()  # Flower's, and whoever else is started by `celery -A`
app = make_app(load_settings())
