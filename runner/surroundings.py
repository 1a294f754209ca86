"""What a live session asks of its host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from core.clock import Clock
    from models.inputs import Delivery
    from models.lifecycle import Status
    from runner.affairs import Affairs
    from runner.live import LiveSession
    from runner.supervision import Finish


class Surroundings(Protocol):
    """Nothing here may block: it is called from the hub."""

    clock: Clock
    idle_after_seconds: float
    affairs: Affairs

    def signal(self, tag: int, number: int, *, group: int | None = None) -> None: ...
    def signal_all(self, tag: int, number: int) -> None: ...
    def end_all(self, tag: int) -> None: ...
    def replace_keeper(self) -> None: ...
    def news(self, live: LiveSession) -> None: ...
    def has_room(self, session_id: UUID) -> bool: ...
    def delivered(self, delivery: Delivery) -> None: ...
    def look(self, session_ids: Sequence[UUID]) -> None: ...
    def finish(self, live: LiveSession, how: Finish) -> None: ...
    def status_changed(self, live: LiveSession, status: Status) -> None: ...
