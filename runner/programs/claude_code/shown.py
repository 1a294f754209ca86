"""What people are shown of what Claude Code says: its text as it comes, a line for each tool's call and result. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.programs.claude_code.said import Asked, TurnEnded

LINE_CHARACTERS: Final = 200
"""Of a tool's call or result: more is for programs."""
TELLING: Final = ("description", "command", "file_path", "path", "pattern", "query", "url", "prompt", "subject")
"""Members of a tool's input that say best what it is about, the best first."""
MOST_NAMES: Final = 1000
"""Tools under way whose names are remembered, and messages whose text was streamed."""
AGENT_KINDS: Final = frozenset({"assistant", "user", "result", "system"})
SILENT: Final = frozenset({"session_state_changed"})
"""Told in other ways."""
AGENT_TEXT_CHARACTERS: Final = 100_000
"""Of an `agent` entry's text. The program's own transcript has all of it."""


class Text:
    """Text on its way to people: whether it stands at the beginning of a line, what was streamed already."""

    def __init__(self) -> None:
        self._at_start = True
        self._streamed: dict[str, None] = {}
        self._message: str | None = None
        self._tools: dict[str, str] = {}

    def streamed(self, event: Mapping[str, Any]) -> str:
        """Return the text of a stream's event."""
        match event.get("type"):
            case "message_start":
                self._message = str(_object(event.get("message")).get("id"))
                _remember(self._streamed, self._message, None)
            case "content_block_delta":
                delta = _object(event.get("delta"))
                if delta.get("type") == "text_delta" and isinstance(delta.get("text"), str):
                    return self._noted(delta["text"])
            case "message_stop":
                return self._line_end()
        return ""

    def of_message(self, message: Mapping[str, Any], *, is_main: bool) -> str:
        """Return what was not streamed of a finished message, and a line for each tool it calls."""
        parts = []
        was_streamed = str(message.get("id")) in self._streamed
        for block in _blocks(message):
            if block.get("type") == "text" and is_main and not was_streamed and isinstance(block.get("text"), str):
                parts.append(self.apart(block["text"]))
            elif block.get("type") == "tool_use":
                name = str(block.get("name"))
                _remember(self._tools, str(block.get("id")), name)
                parts.append(self.apart(f"[{name}] {about(_object(block.get('input')))}".rstrip()))
        return "".join(parts)

    def of_results(self, message: Mapping[str, Any]) -> str:
        """Return a line for each tool's result."""
        parts = []
        for block in _blocks(message):
            if block.get("type") == "tool_result":
                name = self._tools.pop(str(block.get("tool_use_id")), "tool")
                sign = "failed" if block.get("is_error") is True else "→"
                parts.append(self.apart(f"[{name}] {sign} {_first_line(_plain(block.get('content')))}".rstrip()))
        return "".join(parts)

    def apart(self, text: str) -> str:
        """Return text on lines of its own."""
        if not text:
            return ""
        return self._line_end() + self._noted(text if text.endswith("\n") else f"{text}\n")

    def _line_end(self) -> str:
        return "" if self._at_start else self._noted("\n")

    def _noted(self, text: str) -> str:
        if text:
            self._at_start = text.endswith("\n")
        return text


def about(given: Mapping[str, Any]) -> str:
    """Return in a few words what a tool is to do."""
    found = next((given[name] for name in TELLING if isinstance(given.get(name), str) and given[name].strip()), None)
    return _first_line(found if found is not None else orjson.dumps(given).decode() if given else "")


def of_request(asked: Asked) -> str:
    """Return the line that says that a decision is waited for."""
    what = about(asked.input) if asked.description is None else _first_line(asked.description)
    return {
        "question": f"[question] {_questions(asked.input) or what}",
        "plan": "[plan] waits for approval",
    }.get(asked.kind, f"[permission] {asked.tool}: {what}")


def _questions(given: Mapping[str, Any]) -> str:
    asked = given.get("questions")
    texts = [_object(each).get("question") for each in asked] if isinstance(asked, list) else []
    return _first_line(" / ".join(text for text in texts if isinstance(text, str)))


def of_system(line: Mapping[str, Any]) -> str:
    """Return what people should know of what the program says about itself; of most, nothing."""
    if line.get("subtype") == "api_retry":
        why = line.get("error") or line.get("error_status") or "no connection"
        milliseconds = line.get("retry_delay_ms")
        pause = f" in {milliseconds / 1000:.0f} s" if isinstance(milliseconds, int | float) else ""
        return f"[the model does not answer: {why}; try {line.get('attempt')} of {line.get('max_retries')}{pause}]"
    if line.get("subtype") == "permission_denied":
        return f"[denied] {line.get('tool_name', 'a tool')}"
    return ""


def of_turn(ended: TurnEnded, errors: Any) -> str:
    """Return what people should know of a turn's end: nothing, where it went well."""
    if ended.subtype == "success" and not ended.is_error:
        return ""
    words = [str(error) for error in errors] if isinstance(errors, list) else []
    return f"[{ended.subtype.replace('_', ' ')}] {_first_line(' / '.join(words) or ended.text or '')}".rstrip()


# For programs.


def agent(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an `agent` entry says of a line: its kind and what programs ask of it; None where there is nothing to say."""
    kind, subtype = str(line.get("type")), str(line.get("subtype"))  # of any shape, as all the rest
    if kind not in AGENT_KINDS or subtype in SILENT or line.get("isReplay") is True:
        return None
    texts = ("subtype", "uuid", "error", "parent_tool_use_id")
    fields: dict[str, Any] = {"type": kind} | {name: line[name] for name in texts if isinstance(line.get(name), str)}
    if kind in ("assistant", "user"):
        fields |= dict(_of_message(_object(line.get("message"))))
    elif kind == "result":
        fields |= _members(line, ("is_error", "num_turns", "result", "usage", "total_cost_usd", "terminal_reason"))
    elif subtype == "api_retry":
        fields |= _members(line, ("attempt", "max_retries", "retry_delay_ms", "error_status"))
    elif subtype == "init":
        fields |= _members(line, ("model", "tools", "mcp_servers", "permissionMode"))
    return fields


def _of_message(message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    blocks = _blocks(message)
    text = "".join(
        block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)
    )
    if text:
        yield "text", text[:AGENT_TEXT_CHARACTERS]
    tools = [
        {"id": block.get("id"), "name": block.get("name"), "input": block.get("input")}
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    if tools:
        yield "tools", tools
    results = [
        {
            "id": block.get("tool_use_id"),
            "is_error": block.get("is_error") is True,
            "text": _plain(block.get("content"))[:AGENT_TEXT_CHARACTERS],
        }
        for block in blocks
        if block.get("type") == "tool_result"
    ]
    if results:
        yield "results", results
    if isinstance(message.get("usage"), dict):
        yield "usage", message["usage"]


def _members(line: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: line[name] for name in names if line.get(name) is not None}


# Shapes.


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(text for block in _blocks({"content": content}) if isinstance(text := block.get("text"), str))


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    if not lines:
        return ""
    first = lines[0].strip()
    if len(first) > LINE_CHARACTERS:
        return first[: LINE_CHARACTERS - 1] + "…"
    return f"{first} (and {len(lines) - 1} lines)" if len(lines) > 1 else first


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _remember(memory: dict[str, Any], name: str, value: Any) -> None:
    memory[name] = value
    while len(memory) > MOST_NAMES:
        del memory[next(iter(memory))]
