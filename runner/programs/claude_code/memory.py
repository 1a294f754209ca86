"""What of a session of Claude Code outlives its process: which conversation it is, what it has cost, whether the first words
were answered. Kept in `sessions.program_state`, shown to clients as `usage`. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.programs.claude_code.said import TurnEnded

TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
KEPT: Final = ("conversation_id", "version", "model", "query")


def query_id(session_id: UUID) -> UUID:
    """Return the id of the message that a session begins with: the same one whoever sends it."""
    return uuid5(session_id, "query")


@dataclass(slots=True)
class Memory:
    """`query`: what became of the first words; None: nothing yet. Tokens are of all processes of the session; money is of the
    whole conversation, also of what another session said of it before.
    """

    conversation_id: str | None = None
    version: str | None = None
    model: str | None = None
    query: str | None = None
    turns: int = 0
    cost_usd: float = 0.0
    usage: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Memory:
        """Return what a former holder left."""
        kept = dict(state or {})
        facts = {name: kept.get(name) for name in KEPT}
        cost, usage = float(kept.get("cost_usd", 0.0)), dict(kept.get("usage", {}))
        return cls(**facts, turns=kept.get("turns", 0), cost_usd=cost, usage=usage)

    def note(self, **facts: str | None) -> bool:
        """Take in facts; return whether one is news."""
        news = {name: fact for name, fact in facts.items() if fact is not None and fact != getattr(self, name)}
        for name, fact in news.items():
            setattr(self, name, fact)
        return bool(news)

    def count(self, turn: TurnEnded) -> dict[str, int]:
        """Take in what a turn has used; return the tokens by their kind."""
        used = {kind: number for kind in TOKENS if isinstance(number := turn.usage.get(kind), int) and number > 0}
        for kind, number in used.items():
            self.usage[kind] = self.usage.get(kind, 0) + number
        self.turns += 1
        if turn.cost_usd is not None:  # of the whole conversation: a process that goes on with one counts on
            self.cost_usd = max(self.cost_usd, turn.cost_usd)
        return used

    def as_json(self) -> dict[str, Any]:
        """Return what is kept."""
        facts = {name: getattr(self, name) for name in KEPT}
        return facts | {"turns": self.turns, "cost_usd": round(self.cost_usd, 6), "usage": dict(self.usage)}
