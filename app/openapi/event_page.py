"""`python -m app.openapi.event_page`: writes what events hold into docs/events.md, from the code. A test compares the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field

from app.times import Instant  # noqa: TC001  (pydantic reads the annotations)
from models.events import EventKind
from models.payloads import PAYLOADS

PAGE: Final = Path(__file__).parents[2] / "docs" / "events.md"
BEGIN: Final = "<!-- from here on made by `make openapi` -->\n"


class EventView(BaseModel):
    """An event, as everybody gets it: NATS, webhooks, this API."""

    event_type: str = Field(description="What happened.")
    session_id: str | None = Field(description="The session it happened to; null: none.")
    event_id: str = Field(description="Never used twice: whoever gets an event again knows it by this.")
    position: str | None = Field(
        description="Its place in the order of all events, and what `after` takes. Texts are ordered as the places are."
    )
    payload: dict[str, Any] = Field(description="By event_type.")
    timestamp: Instant
    request_id: str | None = Field(description="X-Request-ID of the request that caused it.")
    actor: str | None = Field(description="Name of the API key, or of the process of ours, that caused it.")


STREAMED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The position."},
        "event": {"enum": ["connected", "checkpoint", "stream_error", *EventKind]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
    "required": ["event", "data"],
}
"""One event of the stream: `data` is the envelope; `checkpoint` says how far one is where nothing that is wanted has come."""


def made() -> str:
    """Return the part of the page that is made."""
    parts = [_shown("The envelope", EventView)]
    parts += [_shown(f"`{kind}`", PAYLOADS[kind]) for kind in EventKind]
    return BEGIN + "\n" + "\n".join(parts)


def _shown(title: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema(mode="serialization")
    text = schema.pop("description")
    schema.pop("title")
    for member in schema["properties"].values():
        member.pop("title", None)
    shown = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
    return f"### {title}\n\n{text}\n\n```json\n{shown}\n```\n"


def main() -> None:
    """Write the page's second half anew."""
    by_hand, _, _ = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(by_hand + made())


if __name__ == "__main__":
    main()
