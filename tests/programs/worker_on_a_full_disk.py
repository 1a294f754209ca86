"""A worker whose JELMORE_HOME is a file system of its own with room for next to nothing. Nobody else sees it. Needs root."""

from __future__ import annotations

import ctypes
import os
import runpy
from typing import Final

from core.settings import load_settings

CLONE_NEWNS: Final = 0x00020000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
ROOM: Final = b"size=64k,nr_inodes=8"


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    home = load_settings().jelmore_home
    home.mkdir(exist_ok=True)
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))  # what is mounted here stays here
    checked(libc.mount(b"tmpfs", os.fsencode(home), b"tmpfs", 0, ROOM))
    runpy.run_module("tasks.worker", run_name="__main__")
