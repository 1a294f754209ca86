"""What the scripted model answers: the newest text of the user says it itself, in its last line that begins with @. Pure.

    @text WORDS          these words                       @bash COMMAND     the tool Bash, then what it said
    @slow N SECONDS      N words, a pause after each       @tool NAME JSON   any tool, then what it said
    @think WORDS         thinks them, then says "thought"  @loop N COMMAND   Bash, N times one after the other
    @recall              all that the user ever said       @status CODE      an error, always
    @hang                nothing but pings                 @flaky CODE K     an error K times, then "recovered"
    @cut K               the connection breaks within the answer K times, then "recovered"
    anything else        "heard: " and the text

So one server serves any number of conversations, and a test reads as what happens in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RECOVERED: Final = "recovered"
_REMINDERS: Final = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_INTERRUPTED: Final = "[Request interrupted"


@dataclass(frozen=True, slots=True)
class Text:
    """A block of text, or of thinking, in the pieces it is sent in."""

    pieces: tuple[str, ...]
    kind: Literal["text", "thinking"] = "text"


@dataclass(frozen=True, slots=True)
class Use:
    """The wish to use a tool."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `pause_seconds`: after each piece. `status`: any but 200 is an error without blocks."""

    blocks: tuple[Text | Use, ...] = ()
    pause_seconds: float = 0.0
    status: int = 200
    ending: Literal["whole", "cut", "hang"] = "whole"


@dataclass(slots=True)
class Heard:
    """A conversation as a request tells it: what the user said, oldest first, and what tools said since the newest of it."""

    prompts: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)


def heard(messages: list[dict[str, Any]]) -> Heard:
    """Take a request's messages apart. What the program itself puts in between is nothing the user said."""
    found = Heard()
    for message in messages:
        for block in _blocks(message["content"]) if message["role"] == "user" else ():
            if block["type"] == "tool_result":
                said = "".join(each.get("text", "") for each in _blocks(block.get("content", "")))
                found.results.append(_said(said))
            elif block["type"] == "text" and (said := _said(block["text"])):
                found.prompts.append(said)
                found.results.clear()
    return found


def choose(conversation: Heard, before: int) -> Reply:
    """Return the answer. `before`: how often the very same was asked already."""
    prompt = conversation.prompts[-1] if conversation.prompts else ""
    commands = [line for line in prompt.splitlines() if line.startswith("@")]
    verb, _, rest = commands[-1][1:].strip().partition(" ") if commands else ("", "", "")
    if verb in _BY_RESULTS:
        return _BY_RESULTS[verb](rest, conversation.results)
    if verb in _BY_TIMES:
        return _BY_TIMES[verb](rest, before)
    if verb == "recall":
        return says("you said: " + " | ".join(conversation.prompts[:-1]))
    return _PLAIN[verb](rest) if verb in _PLAIN else says(f"heard: {prompt}")


def says(words: str) -> Reply:
    """Return an answer of text, word by word."""
    return Reply((Text(tuple(re.findall(r"\S+\s*|\s+", words)) or ("",)),))


def _slow(rest: str) -> Reply:
    number, seconds = rest.split()
    return Reply((Text(tuple(f"word{each + 1} " for each in range(int(number)))),), float(seconds))


def _think(rest: str) -> Reply:
    return Reply((Text((rest,), "thinking"), Text(("thought",))))


def _tool(rest: str, results: list[str]) -> Reply:
    name, _, input_ = rest.partition(" ")
    return _uses(name, json.loads(input_ or "{}"), results, 1)


def _bash(rest: str, results: list[str]) -> Reply:
    return _uses("Bash", {"command": rest, "description": "what the test says"}, results, 1)


def _loop(rest: str, results: list[str]) -> Reply:
    times, _, command = rest.partition(" ")
    return _uses("Bash", {"command": command, "description": "once more"}, results, int(times))


def _uses(name: str, input_: Mapping[str, Any], results: list[str], times: int) -> Reply:
    if len(results) < times:
        return Reply((Text((f"I use {name}. ",)), Use(name, input_)))
    return says("tool said: " + " | ".join(results))


def _flaky(rest: str, before: int) -> Reply:
    status, times = rest.split()
    return Reply(status=int(status)) if before < int(times) else says(RECOVERED)


def _cut(rest: str, before: int) -> Reply:
    return Reply((Text(("half ", "of ")),), ending="cut") if before < int(rest or 1) else says(RECOVERED)


_PLAIN: Final[Mapping[str, Callable[[str], Reply]]] = {
    "text": says,
    "slow": _slow,
    "think": _think,
    "status": lambda rest: Reply(status=int(rest)),
    "hang": lambda _: Reply(ending="hang"),
}
_BY_RESULTS: Final[Mapping[str, Callable[[str, list[str]], Reply]]] = {"bash": _bash, "tool": _tool, "loop": _loop}
_BY_TIMES: Final[Mapping[str, Callable[[str, int], Reply]]] = {"flaky": _flaky, "cut": _cut}


def _said(text: str) -> str:
    said = _REMINDERS.sub("", text).strip()
    return "" if said.startswith(_INTERRUPTED) else said


def _blocks(content: str | list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    else:
        yield from content
