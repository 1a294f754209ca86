"""The version of this service, as the package's metadata has it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("jelmore")
