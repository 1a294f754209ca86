"""Claude Code's side of the conversation, understood: objects in, what follows from each out. Pure.

Nobody may rely on the order of members or on knowing every type: what is unknown is passed on to programs and means nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from runner.programs.claude_code import shown
from runner.programs.claude_code.lines import Lines, Unreadable
from runner.programs.claude_code.said import (
    Asked,
    Became,
    Conversation,
    Delivered,
    Doing,
    Printed,
    Ready,
    Said,
    Told,
    TurnEnded,
    Withdrawn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INITIALIZE: Final = "jelmore-initialize"
"""The id of the request whose answer says that the program listens."""
STATES: Final = frozenset(Doing)
KINDS: Final = {"AskUserQuestion": "question", "ExitPlanMode": "plan"}
"""What is asked by these tools; by all others, permission."""


class Dialogue:
    """One process: what of its lines has come, what it has begun to print."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._text = shown.Text()
        self._has_states = False
        self._asked: set[str] = set()
        self._understand: Mapping[str, Callable[[dict[str, Any]], Iterator[Said]]] = {
            "control_response": self._answered,
            "control_request": self._requested,
            "control_cancel_request": self._withdrawn,
            "system": self._system,
            "command_lifecycle": self._lifecycle,
            "stream_event": self._streamed,
            "assistant": self._assistant,
            "user": self._user,
            "result": self._result,
        }

    def take(self, data: bytes) -> Iterator[Said]:
        """Yield what follows from bytes of its output."""
        for line in self._lines.take(data):
            yield from self._understood(line)

    def end(self) -> Iterator[Said]:
        """Yield what follows from the end of its output."""
        for line in self._lines.end():
            yield from self._understood(line)

    def _understood(self, line: dict[str, Any] | Unreadable) -> Iterator[Said]:
        if isinstance(line, Unreadable):
            yield Printed(f"{line}\n")
            return
        understand = self._understand.get(str(line.get("type")))
        if understand is not None:
            yield from understand(line)
        told = shown.agent(line)
        if told is not None:
            yield Told(told, orjson.dumps(line))

    # About itself.

    def _answered(self, line: dict[str, Any]) -> Iterator[Said]:
        answer = _object(line.get("response"))
        if answer.get("request_id") == INITIALIZE and answer.get("subtype") == "success":
            version = _object(answer.get("response")).get("claude_code_version")
            yield Ready(version if isinstance(version, str) else None)

    def _system(self, line: dict[str, Any]) -> Iterator[Said]:
        subtype = line.get("subtype")
        if subtype == "session_state_changed" and str(line.get("state")) in STATES:
            self._has_states = True
            yield Became(Doing(line["state"]))
        elif subtype == "init" and isinstance(line.get("session_id"), str):
            model = line.get("model")
            yield Conversation(line["session_id"], model if isinstance(model, str) else None)
            if not self._has_states:  # older ones do not say what they do
                yield Became(Doing.RUNNING)
        elif text := shown.of_system(line):
            yield from self._printed(text)

    def _lifecycle(self, line: dict[str, Any]) -> Iterator[Said]:
        message_id, state = line.get("command_uuid"), line.get("state")
        if isinstance(message_id, str) and isinstance(state, str):
            yield Delivered(message_id, state)

    # What it wants.

    def _requested(self, line: dict[str, Any]) -> Iterator[Said]:
        request_id, request = line.get("request_id"), _object(line.get("request"))
        if request.get("subtype") != "can_use_tool" or not isinstance(request_id, str):
            return
        tool = str(request.get("tool_name"))
        self._asked.add(request_id)
        suggestions, description = request.get("permission_suggestions"), request.get("description")
        asked = Asked(
            request_id,
            KINDS.get(tool, "permission"),
            tool,
            _object(request.get("input")),
            description if isinstance(description, str) else None,
            suggestions if isinstance(suggestions, list) else (),
        )
        yield asked
        yield from self._printed(shown.of_request(asked))

    def _withdrawn(self, line: dict[str, Any]) -> Iterator[Said]:
        request_id = line.get("request_id")
        if isinstance(request_id, str) and request_id in self._asked:
            self._asked.discard(request_id)
            yield Withdrawn(request_id)

    # What it does.

    def _streamed(self, line: dict[str, Any]) -> Iterator[Said]:
        if line.get("parent_tool_use_id") is None and (text := self._text.streamed(_object(line.get("event")))):
            yield Printed(text)

    def _assistant(self, line: dict[str, Any]) -> Iterator[Said]:
        if text := self._text.of_message(_object(line.get("message")), is_main=line.get("parent_tool_use_id") is None):
            yield Printed(text)

    def _user(self, line: dict[str, Any]) -> Iterator[Said]:
        if line.get("isReplay") is not True and (text := self._text.of_results(_object(line.get("message")))):
            yield Printed(text)

    def _result(self, line: dict[str, Any]) -> Iterator[Said]:
        ids = line.get("user_message_uuids")
        single, text, cost = line.get("user_message_uuid"), line.get("result"), line.get("total_cost_usd")
        turns = line.get("num_turns")
        ended = TurnEnded(
            str(line.get("subtype")),
            line.get("is_error") is True,
            text if isinstance(text, str) else None,
            [each for each in (ids if isinstance(ids, list) else [single]) if isinstance(each, str)],
            _object(line.get("usage")),
            float(cost) if isinstance(cost, int | float) else None,
            turns if isinstance(turns, int) else 0,
            why if isinstance(why := line.get("terminal_reason"), str) else None,
        )
        yield from self._printed(shown.of_turn(ended, line.get("errors")))
        yield ended
        if not self._has_states:
            yield Became(Doing.IDLE)

    def _printed(self, text: str) -> Iterator[Said]:
        if line := self._text.apart(text):
            yield Printed(line)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
