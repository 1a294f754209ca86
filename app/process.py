"""What kind of process this is."""

from __future__ import annotations

from gevent import monkey


def is_patched() -> bool:
    """Whether gevent has patched this process: under gunicorn yes, in a plain test process no.

    Only a patched process has a loop that runs greenlets while a request waits.
    """
    return bool(monkey.is_module_patched("socket"))
