"""Places in logs and in the order of events, and bodies that are no JSON, as several routes have them."""

from __future__ import annotations

from typing import Final

POSITIONS: Final = (
    {
        "name": "after",
        "in": "query",
        "description": "Behind this entry.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    },
    {
        "name": "tail",
        "in": "query",
        "description": "From so many lines before the end.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    },
)
PLACE: Final = {
    "name": "after",
    "in": "query",
    "description": "Behind this `position`.",
    "schema": {"type": "string", "pattern": "^[0-7][0-9a-f]{11}-[0-7][0-9a-f]{11}$"},
}
LAST_PLACE: Final = {
    **PLACE,
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event one has. Beats `after`; without both, events come from now on.",
    "schema": {"type": "string", "pattern": "^([0-7][0-9a-f]{11}-[0-7][0-9a-f]{11})?$"},
}
PLACES: Final = (
    {
        "name": "after",
        "in": "query",
        "description": "Behind these entries: one of each session, in their order.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18}){0,49}$"},
    },
    {**POSITIONS[1], "description": "From so many lines before the end of each."},
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The id of the last event one has: the stream goes on behind it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18}){0,49}$"},
    },
)
OCTETS: Final = {"type": "string", "description": "The exact bytes of the output."}

CAST: Final = {
    "type": "string",
    "description": "An asciicast of version 2: a line of JSON each for its head and its events.",
}
