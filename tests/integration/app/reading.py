"""Reading Server-Sent Events as a client would."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from tests.integration.app.serving import Api


@dataclass(frozen=True)
class Event:
    """One event. `id` is None where there was none."""

    event: str
    data: dict[str, Any]
    id: int | None = None


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Event(fields["event"], json.loads(fields["data"]), number)
            fields = {}


def events_of(api: Api, session_id: UUID, query: str = "", **headers: str) -> list[Event]:
    """Return the events of a stream that ends by itself."""
    answer = api.get(f"/sessions/{session_id}/stream{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return list(parse(answer.text.split("\n")))
