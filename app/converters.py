"""Ids in paths."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

from werkzeug.routing import BaseConverter

CANONICAL: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
NOBODY: Final = UUID(int=0)


def id_of(text: str) -> UUID:
    """Return the id that stands in a request; what is none becomes the id that nothing has."""
    return UUID(text) if CANONICAL.fullmatch(text) else NOBODY


class IdConverter(BaseConverter):
    """The id of a session, a key, a webhook. A malformed one becomes the id that nothing has.

    So it is answered like any unknown id, by the same code and after the same look at the key, not as an unknown path.
    """

    def to_python(self, value: str) -> UUID:
        """Return the id."""
        return id_of(value)

    def to_url(self, value: Any) -> str:
        """Return the id's text."""
        return str(value)
