"""`python -m app.doctor`: prints what is found, as one JSON object. Exit code 0, whatever is found."""

from __future__ import annotations

import json
import sys

from app.doctor.inside import look
from core.clock import SystemClock
from core.errors import ConfigurationError
from core.privacy import close_memory
from core.settings import load_settings


def main() -> int:
    """Look, and print."""
    close_memory()
    try:
        settings = load_settings()
    except ConfigurationError as faulty:
        found: dict[str, object] = {"faults": [*faulty.faults]}
    else:
        found = look(settings, SystemClock())
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
