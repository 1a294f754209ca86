"""What one process wants decided: asked of clients under ids of ours, answered in the program's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from core.ids import uuid7
from models.requests import NewRequest, RequestState
from runner.plumbing import Letter
from runner.programs.claude_code import messages
from streams.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.live import LiveSession
    from runner.programs.claude_code.said import Asked

NOBODY = "Nobody answered in time."


@dataclass(frozen=True, slots=True)
class _Open:
    asked: Asked
    until: float | None


class Requests:
    """Those that are open. `timeout_seconds`: after so long one is denied; None: it waits."""

    def __init__(self, live: LiveSession, timeout_seconds: float | None) -> None:
        self._live = live
        self._timeout = timeout_seconds
        self._open: dict[UUID, _Open] = {}

    def asked(self, asked: Asked) -> None:
        """Ask everybody."""
        host = self._live.host
        new = NewRequest(uuid7(), asked.kind, asked.tool, asked.input, asked.description)
        self._open[new.id] = _Open(asked, None if self._timeout is None else host.clock.now() + self._timeout)
        fields: dict[str, object] = {
            "request_id": str(new.id),
            "kind": new.kind,
            "tool": new.tool,
            "input": dict(new.input),
            "description": new.description,
        }
        self._live.write(EntryKind.REQUEST, fields)
        host.affairs.asked(self._live, new)

    def decided(self, detail: Mapping[str, Any], by: str) -> bytes | None:
        """Return the line that brings a decision; None if nobody waits for it any more."""
        request_id = UUID(detail["request_id"])
        found = self._open.pop(request_id, None)
        if found is None:
            self._live.host.affairs.settled(self._live, request_id, RequestState.WITHDRAWN)
            return None
        allow = bool(detail["allow"])
        self._tell(request_id, RequestState.ALLOWED if allow else RequestState.DENIED, by=by)
        asked = found.asked
        if not allow:
            return messages.deny(asked.request_id, detail.get("message") or f"{by} said no.")
        rules = messages.for_session([*asked.suggestions]) if detail.get("remember") == "session" else None
        changed = detail.get("input")
        return messages.allow(asked.request_id, asked.input if changed is None else changed, rules)

    def withdrawn(self, their_id: str) -> None:
        """The program wants no decision any more."""
        for request_id in [ours for ours, found in self._open.items() if found.asked.request_id == their_id]:
            del self._open[request_id]
            self._tell(request_id, RequestState.WITHDRAWN)
            self._live.host.affairs.settled(self._live, request_id, RequestState.WITHDRAWN)

    def tick(self, now: float) -> None:
        """Deny what nobody decided in time."""
        for request_id in [
            ours for ours, found in self._open.items() if found.until is not None and now >= found.until
        ]:
            found = self._open.pop(request_id)
            self._tell(request_id, RequestState.DENIED, by="timeout")
            self._live.host.affairs.settled(self._live, request_id, RequestState.DENIED, NOBODY)
            if self._live.plumbing is not None:
                self._live.plumbing.write(Letter(None, messages.deny(found.asked.request_id, NOBODY)))

    def _tell(self, request_id: UUID, state: RequestState, **more: str) -> None:
        self._live.write(EntryKind.REQUEST, {"request_id": str(request_id), "state": str(state), **more})
