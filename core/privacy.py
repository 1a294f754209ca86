"""Closing a process's memory to others of its user. Imports nothing that gevent must patch first."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4


def close_memory() -> None:
    """Keep this process's memory and environment, with the service's secrets, from processes of the same user.

    /proc/PID/environ and mem are root's then. A fork inherits it; exec undoes it, so each program of ours does it itself,
    first thing: for the moment before, and for what stands in files of this user, only another user for sessions helps.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
