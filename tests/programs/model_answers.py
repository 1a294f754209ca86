"""The scripted model's answers in the words of the Messages API: as the events of a stream, or as one message. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from tests.programs.model_script import Text, Use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.programs.model_script import Reply

SIGNATURE: Final = "c2NyaXB0ZWQ="
HALF: Final = 2


def tokens(body: dict[str, Any]) -> int:
    """Return how many tokens a question has, roughly."""
    return max(1, len(json.dumps(body.get("messages", []))) // 4)


def events(body: dict[str, Any], reply: Reply) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield each event of a stream, and how many seconds to wait after it."""
    yield {"type": "message_start", "message": _begun(body)}, 0
    for index, block in enumerate(reply.blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}, 0
        for delta, pause in _deltas(block, reply.pause_seconds):
            yield {"type": "content_block_delta", "index": index, "delta": delta}, pause
        if reply.ending == "whole":
            yield {"type": "content_block_stop", "index": index}, 0
    if reply.ending == "whole":
        delta = {"stop_reason": _reason(reply), "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": _spent(reply)}}, 0
        yield {"type": "message_stop"}, 0


def message(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Return the whole of an answer."""
    whole = _begun(body)
    whole["content"] = [_whole(block) for block in reply.blocks]
    whole["stop_reason"] = _reason(reply)
    whole["usage"]["output_tokens"] = _spent(reply)
    return whole


def _begun(body: dict[str, Any]) -> dict[str, Any]:
    usage = {"input_tokens": tokens(body), "output_tokens": 1}
    usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "unknown"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _empty(block: Text | Use) -> dict[str, Any]:
    if isinstance(block, Use):
        return {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": block.name, "input": {}}
    return {"type": block.kind, block.kind: "", **({"signature": ""} if block.kind == "thinking" else {})}


def _whole(block: Text | Use) -> dict[str, Any]:
    whole = _empty(block)
    if isinstance(block, Use):
        return whole | {"input": dict(block.input)}
    return whole | {block.kind: "".join(block.pieces)}


def _deltas(block: Text | Use, pause_seconds: float) -> Iterator[tuple[dict[str, Any], float]]:
    if isinstance(block, Use):  # cut anywhere: whoever reads it must put it together first
        written = json.dumps(dict(block.input))
        middle = len(written) // HALF
        for part in (written[:middle], written[middle:]):
            yield {"type": "input_json_delta", "partial_json": part}, 0
        return
    for piece in block.pieces:
        yield {"type": f"{block.kind}_delta", block.kind: piece}, pause_seconds
    if block.kind == "thinking":
        yield {"type": "signature_delta", "signature": SIGNATURE}, 0


def _reason(reply: Reply) -> str:
    return "tool_use" if any(isinstance(block, Use) for block in reply.blocks) else "end_turn"


def _spent(reply: Reply) -> int:
    return sum(len(block.pieces) if isinstance(block, Text) else 20 for block in reply.blocks) or 1
