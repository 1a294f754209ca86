"""What a stream sends: the data of its events, and the messages of a WebSocket."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import BaseModel, ConfigDict, Field, create_model

from app.openapi.answers import Fault  # noqa: TC001  (as above)
from app.times import Instant  # noqa: TC001  (as above)
from models.lifecycle import Reason, Status  # noqa: TC001  (as above)


class Told(BaseModel):
    """What every event has."""

    timestamp: Instant


class Connected(Told):
    """The first event of every stream, without an id."""

    session_id: UUID


class Output(Told):
    """Something was printed. With `encoding=base64` it has `content_base64`, the exact bytes, in the place of `content`."""

    content: str | None = Field(None, description="Text; bytes that are no UTF-8 are shown as U+FFFD.")
    content_base64: str | None = None
    offset: int = Field(description="The place of its first byte in the output.")
    bytes: int = Field(description="How many bytes it is.")
    stream: Literal["stdout", "stderr"] | None = Field(None, description="Not at a terminal, which has one.")


class StatusChanged(Told):
    """The status is another."""

    status: Status
    reason: str | None = None


class InputWritten(Told):
    """Input has reached the program."""

    input_id: UUID
    input_seq: int


class Restarted(Told):
    """The program began again, on another worker."""

    attempt: int
    reason: str


class Requested(Told):
    """A program wants something decided; or, with `state`, what became of that."""

    request_id: UUID
    kind: Literal["permission", "question", "plan"] | None = None
    tool: str | None = None
    input: dict[str, Any] | None = Field(None, description="What the tool is to be given.")
    description: str | None = None
    state: Literal["allowed", "denied", "withdrawn"] | None = None
    by: str | None = Field(None, description="Who decided.")


class AgentSaid(Told):
    """A message of a program that converses, for programs. It has more members, and kinds, as that program grows.

    With `view=raw` it has the program's own line in the place of what was read from it.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    line: str | None = None
    text: str | None = None
    tools: list[dict[str, Any]] | None = None
    results: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    total_cost_usd: float | None = None


class Gap(Told):
    """Entries `from` to `to` are gone: after their retention, or lost with Redis and a worker at once."""

    from_: Annotated[int, Field(alias="from")]
    to: int
    reason: str


class Terminated(Told):
    """The session has ended. Always the last event, after the last byte."""

    status: Status
    exit_code: int | None
    exit_signal: str | None
    reason: Reason
    output_bytes: int
    output_sha256: str | None


class StreamError(Told):
    """The stream cannot go on; come again behind the last id."""

    error_code: str
    detail: str


EVENTS: dict[str, type[BaseModel]] = {
    "connected": Connected,
    "output": Output,
    "status": StatusChanged,
    "input": InputWritten,
    "restarted": Restarted,
    "request": Requested,
    "agent": AgentSaid,
    "gap": Gap,
    "terminated": Terminated,
    "stream_error": StreamError,
}


class OfSession(BaseModel):
    """What an event of many sessions' stream has besides."""

    session_id: UUID


OF_MANY: dict[str, type[BaseModel]] = {
    name: model
    if issubclass(model, (Connected, StreamError))
    else create_model(f"{model.__name__}OfSession", __base__=(model, OfSession), __doc__=model.__doc__)
    for name, model in EVENTS.items()
}
"""The same, naming their session. What ends the stream is nobody's."""


class SessionInfo(Told):
    """The first message of a socket that may read."""

    session_id: UUID
    status: Status
    program: str
    terminal: dict[str, int] | None
    output_size: int
    last_seq: int


class Pong(Told):
    """The answer to `ping`."""

    id: str | None = None


class StatusResponse(Told):
    """The answer to `get_status`."""

    status: Status
    output_size: int
    id: str | None = None


class Subscribed(Told):
    """The answer to `subscribe`: what comes from here on."""

    events: list[str]
    id: str | None = None


class InputReceived(Told):
    """The answer to `input`: it is stored, and has its number."""

    input_id: UUID
    input_seq: int
    id: str | None = None


class CommandResult(Told):
    """The answer to `resize`, `signal`, `eof`, `interrupt` and `terminate`: the members of the POST's answer besides."""

    model_config = ConfigDict(extra="allow")

    command: str
    message: str
    session_id: UUID
    id: str | None = None


class Refused(Told):
    """A message that was not understood, or refused; the socket stays."""

    error_code: str
    detail: str
    errors: list[Fault] | None = None
    id: str | None = None


ANSWERS: dict[str, type[BaseModel]] = {
    "session_info": SessionInfo,
    "pong": Pong,
    "status_response": StatusResponse,
    "subscribed": Subscribed,
    "input_received": InputReceived,
    "command_result": CommandResult,
    "error": Refused,
}
OF_ENTRIES: Final = {"seq": {"type": "integer", "description": "The entry's number in the log."}}
"""What a WebSocket's message of an entry has besides."""
