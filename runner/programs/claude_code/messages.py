"""What is said to Claude Code: one JSON object a line. Pure.

A line that is no JSON, and a user's message of another shape, end the program at once: lines are made here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

Priority = Literal["now", "next", "later"]
PRIORITIES: Final[Mapping[str, Priority | None]] = {"queue": None, "steer": "next", "interrupt": "now"}
"""Of a message by the mode it is sent in."""


def user(text: str, message_id: UUID, mode: str = "queue") -> bytes:
    """Return a user's message. The program takes no id twice, in one process or in the next one that goes on with its work."""
    message: dict[str, Any] = {"type": "user", "uuid": str(message_id), "message": {"role": "user", "content": text}}
    if (priority := PRIORITIES[mode]) is not None:
        message["priority"] = priority
    return _line(message)


def control(request_id: str, subtype: str, **members: Any) -> bytes:
    """Return a request to the program itself: `initialize`, `interrupt`, `end_session` …"""
    return _line({"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **members}})


def allow(
    request_id: str, changed: Mapping[str, Any] | None = None, rules: list[dict[str, Any]] | None = None
) -> bytes:
    """Return the permission to use a tool: as it asked, or with another input; `rules`: what is allowed from here on as well."""
    answer: dict[str, Any] = {"behavior": "allow"}
    if changed is not None:
        answer["updatedInput"] = dict(changed)
    if rules:
        answer["updatedPermissions"] = rules
    return _answer(request_id, answer)


def deny(request_id: str, message: str) -> bytes:
    """Return the refusal; the model is told the message."""
    return _answer(request_id, {"behavior": "deny", "message": message})


def for_session(suggestions: list[Any]) -> list[dict[str, Any]]:
    """Return the rules a program suggests, to be kept in its memory: as it suggests them they would be written to the workspace."""
    return [{**rule, "destination": "session"} for rule in suggestions if isinstance(rule, dict)]


def _answer(request_id: str, response: dict[str, Any]) -> bytes:
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request_id, "response": response},
        }
    )


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value) + b"\n"
