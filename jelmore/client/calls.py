"""Every request of the API, described: what is sent, what comes back, whether it may be sent twice. Nothing is sent here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from urllib.parse import quote
from uuid import uuid4

from jelmore.client.errors import UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jelmore.client.shapes import (
        Asked,
        Encoding,
        Input,
        OutputPage,
        Receipt,
        Request,
        ResumeFields,
        Scope,
        Session,
        SessionFields,
        SessionFilter,
        Termination,
        Ticket,
    )

T = TypeVar("T")
Params = list[tuple[str, str]]

PAGE_BYTES: Final = 256 * 1024
"""Small enough for a page to come whole over a bad connection: what comes of it in part is asked for again."""
LONGEST_WAIT_SECONDS: Final = 25.0
"""What the service takes for one request: routers on the way cut longer ones."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request. `path` stands behind the API's prefix, or with a leading `//` behind the base URL alone."""

    method: str
    path: str
    read: Callable[[Answer], T]
    params: Params = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    waits_seconds: float = 0.0
    """How long the service was asked to wait before it answers."""
    repeatable: bool = True
    """Whether sending it twice does what sending it once does."""
    unhealthy_too: bool = False
    """Whether 503 is an answer and no failure."""


def members(answer: Answer) -> dict[str, Any]:
    """Return an answer's JSON object."""
    return cast("dict[str, Any]", _json(answer, dict))


def _session(answer: Answer) -> Session:
    return cast("Session", members(answer))


def _json(answer: Answer, kind: type) -> Any:
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    if not isinstance(said, kind):
        raise UnreadableAnswer(f"HTTP {answer.status} with what is no JSON {kind.__name__}: {answer.body[:200]!r}")
    return said


def _at(session_id: str, *more: str) -> str:
    """Return the path of a session. What is no id stays within it, whatever it holds."""
    name = quote(str(session_id), safe="")
    # A dot or two would be taken for a directory, nothing at all for the list of sessions.
    return "/".join(("/sessions", {"": "-", ".": "%2E", "..": "%2E%2E"}.get(name, name), *more))


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _once(key: str | None) -> dict[str, str]:
    """Return the header that lets a request be sent twice and done once."""
    return {"Idempotency-Key": key or uuid4().hex}


# Sessions.


def create(query: str, user_id: str | None, key: str | None, fields: SessionFields) -> Call[Session]:
    """Create a session."""
    body = {"query": query, **_given({"user_id": user_id, **fields})}
    return Call("POST", "/sessions", _session, body=body, headers=_once(key))


def get(session_id: str) -> Call[Session]:
    """Show a session."""
    return Call("GET", _at(session_id), _session)


def page_of_sessions(wanted: SessionFilter, cursor: str | None = None) -> Call[tuple[list[Session], str]]:
    """List sessions, newest first: a page, and the Link header that says where the next one is."""
    params: Params = []
    for name, value in _given(cast("dict[str, Any]", wanted)).items():
        if name == "metadata":
            params += [(f"metadata.{member}", str(text)) for member, text in value.items()]
        elif isinstance(value, list | tuple):
            params += [(name, str(one)) for one in value]
        else:
            params.append((name, str(value)))
    if cursor is not None:
        params.append(("cursor", cursor))

    def read(answer: Answer) -> tuple[list[Session], str]:
        return _json(answer, list), answer.headers.get("link", "")

    return Call("GET", "/sessions", read, params)


def terminate(session_id: str, reason: str | None, wait_seconds: float) -> Call[Termination]:
    """End a session. Asked twice it has ended, or is ending: no error."""
    params = [("wait", f"{wait_seconds:g}"), *([("reason", reason)] if reason else [])]

    def read(answer: Answer) -> Termination:
        return cast("Termination", members(answer))

    return Call("DELETE", _at(session_id), read, params, waits_seconds=wait_seconds)


def wait(session_id: str, until: Mapping[str, Any], from_offset: int, seconds: float) -> Call[Mapping[str, Any]]:
    """Wait for something to come true, once."""
    body = {"until": until, "from_offset": from_offset, "timeout_seconds": round(seconds, 3)}
    return Call("POST", _at(session_id, "wait"), members, body=body, waits_seconds=seconds)


# Output and input.


def output(session_id: str, offset: int, limit: int | None, encoding: Encoding) -> Call[OutputPage]:
    """Read a page of output, and what is said about it."""
    params = [("offset", str(offset)), *([("limit", str(limit))] if limit else []), ("encoding", encoding)]

    def read(answer: Answer) -> OutputPage:
        return cast("OutputPage", members(answer))

    return Call("GET", _at(session_id, "output"), read, params)


def output_bytes(session_id: str, offset: int) -> Call[bytes]:
    """Read a page of exactly what the program printed; one that is not full is the last."""
    params = [("offset", str(offset)), ("limit", str(PAGE_BYTES))]
    return Call("GET", _at(session_id, "output"), lambda answer: answer.body, params, {"Accept": "text/plain"})


def send_input(session_id: str, body: Mapping[str, Any], key: str | None) -> Call[Receipt]:
    """Send input."""

    def read(answer: Answer) -> Receipt:
        return cast("Receipt", members(answer))

    return Call("POST", _at(session_id, "input"), read, body=_given(body), headers=_once(key))


def inputs(session_id: str, after: int, limit: int) -> Call[list[Input]]:
    """List what was asked of a session."""
    params = [("after", str(after)), ("limit", str(limit))]

    def read(answer: Answer) -> list[Input]:
        return cast("list[Input]", _json(answer, list))

    return Call("GET", _at(session_id, "inputs"), read, params)


def ask(session_id: str, what: str, body: Mapping[str, Any], *, repeatable: bool) -> Call[Asked]:
    """Ask for a signal, resize, eof, interrupt or extend. The service answers after up to 5 s."""

    def read(answer: Answer) -> Asked:
        return cast("Asked", members(answer))

    return Call("POST", _at(session_id, what), read, body=body, waits_seconds=5.0, repeatable=repeatable)


# Conversations.


def resume(session_id: str, query: str, key: str | None, fields: ResumeFields) -> Call[Session]:
    """Go on with an ended session's conversation."""
    body = {"query": query, **_given(fields)}
    return Call("POST", _at(session_id, "resume"), _session, body=body, headers=_once(key))


def requests(session_id: str, state: str | None) -> Call[list[Request]]:
    """List what a session's program wants decided."""

    def read(answer: Answer) -> list[Request]:
        return cast("list[Request]", _json(answer, list))

    return Call("GET", _at(session_id, "requests"), read, [("state", state)] if state is not None else [])


def decide(session_id: str, request_id: str, body: Mapping[str, Any]) -> Call[Asked]:
    """Decide what a program asked for. Sent twice, the second one is told that it is settled."""
    return ask(session_id, f"requests/{quote(request_id, safe='')}", _given(body), repeatable=False)


# Streams.


def stream(session_id: str, params: Params, headers: Mapping[str, str]) -> Call[None]:
    """Follow a session. Its answer is no document: see `jelmore.client.following`."""
    said = {"Accept": "text/event-stream", "Accept-Encoding": "identity", **headers}
    return Call("GET", _at(session_id, "stream"), lambda _: None, params, said)


def ticket(session_id: str, scopes: Sequence[Scope]) -> Call[Ticket]:
    """Get a ticket for a browser. Two of them do no harm: one is never used."""

    def read(answer: Answer) -> Ticket:
        return cast("Ticket", members(answer))

    return Call("POST", _at(session_id, "tickets"), read, body={"scopes": list(scopes)})


# The service.


def health() -> Call[dict[str, Any]]:
    """Show how the service is: an answer whatever it says."""
    return Call("GET", "//health", members, unhealthy_too=True, repeatable=False)


def stats() -> Call[dict[str, Any]]:
    """Show the service's numbers."""
    return Call("GET", "/stats", members)


def is_failure(call: Call[Any], answer: Answer) -> bool:
    """Whether an answer is an error, or a redirect, which the service never sends."""
    return answer.status >= 300 and not (call.unhealthy_too and answer.status == 503)
