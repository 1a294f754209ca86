"""What clients are shown beside sessions: rows of a mailbox, and what a conversation has used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import BaseModel

from app.times import Instant  # noqa: TC001  (as above)

if TYPE_CHECKING:
    from models.inputs import Shown


class Usage(BaseModel):
    """What a session has used, by its program's own account. `cost_usd`: of the whole conversation, what it came from included."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cost_usd: float = 0.0
    turns: int = 0
    model: str | None = None
    program_version: str | None = None

    @classmethod
    def of(cls, state: dict[str, Any] | None) -> Self | None:
        """Show what the session's holder keeps of it (`sessions.program_state`); of most programs, nothing."""
        if state is None:
            return None
        facts = {"cost_usd": state.get("cost_usd", 0.0), "turns": state.get("turns", 0), "model": state.get("model")}
        return cls(**state.get("usage", {}), **facts, program_version=state.get("version"))


def _shown_detail(row: Shown) -> dict[str, Any] | None:
    """Return a row's arguments; of an answer not what the tool was given, which may hold secrets: requests show it."""
    if row.detail is None or row.kind != "answer":
        return row.detail
    return {name: row.detail[name] for name in ("request_id", "allow", "remember") if name in row.detail}


class InputView(BaseModel):
    """A row of the mailbox as GET /sessions/{id}/inputs shows it: never what was typed, which may be a password."""

    input_id: UUID
    input_seq: int
    kind: str
    state: str
    reason: str | None
    bytes: int
    detail: dict[str, Any] | None
    metadata: dict[str, Any] | None
    output_offset: int | None
    actor: str
    created_at: Instant
    written_at: Instant | None

    @classmethod
    def of(cls, row: Shown) -> Self:
        """Show a row."""
        return cls(
            input_id=row.input_id,
            input_seq=row.input_seq,
            kind=row.kind,
            state=row.state,
            reason=row.reason,
            bytes=row.size,
            detail=_shown_detail(row),
            metadata=row.metadata,
            output_offset=row.output_offset,
            actor=row.actor,
            created_at=row.created_at,
            written_at=row.written_at,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the members as they are written."""
        return self.model_dump(mode="json")
