"""How each process of ours begins: every one of them, gunicorn's master and the release command too."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from core import logs, privacy
from core.errors import ConfigurationError
from core.settings import load_settings

if TYPE_CHECKING:
    from core.settings import Settings

CONFIGURATION_FAULTY: Final = 78
"""Exit code of a process that does not start because of its configuration (EX_CONFIG)."""


def begin(process: str) -> Settings:
    """Close the memory, read the settings, set up logging under this process's name; leave if the configuration is faulty."""
    privacy.close_memory()
    try:
        settings = load_settings()
        logs.configure(process, settings)
    except ConfigurationError as fault:
        refuse(fault)
    collect_from_here()
    return settings


def refuse(fault: ConfigurationError) -> NoReturn:
    """Leave because of the configuration, and say why."""
    print(fault, file=sys.stderr)
    sys.exit(CONFIGURATION_FAULTY)


def collect_from_here() -> None:
    """Collect garbage again, in a process that began without (it takes a sixth of a start), and never look at what is there.

    What was imported stays for good; looking at it takes time, and copies the memory of forks.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
