"""What routes answer that is no row of a table: its shape, for the document and for the tests that hold both together."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import BaseModel, Field

from app.api.key_schemas import KeyView
from app.api.webhook_schemas import WebhookView
from app.times import Instant  # noqa: TC001  (as above)
from models.inputs import State  # noqa: TC001  (as above)
from models.lifecycle import Status  # noqa: TC001  (as above)

Bytes = Annotated[int, Field(ge=0, description="Bytes.")]


class Problem(BaseModel):
    """Every error. `error_code` is stable; `detail` is for people."""

    detail: str
    error_code: str
    timestamp: Instant


class Fault(BaseModel):
    """One thing that is wrong with a request. `loc`: the way to it."""

    loc: list[str | int]
    msg: str
    type: str


class InvalidRequest(Problem):
    """A request that was understood and cannot be: everything that is wrong with it, if more than the code is to be said."""

    errors: list[Fault] | None = None


class TooManyRequests(Problem):
    """A limit was reached. The last six members: a rate limit's."""

    error: str | None = None
    message: str | None = None
    limit: int | None = None
    window_seconds: int | None = None
    retry_after: int | None = None
    remaining: int | None = None


class EndAsked(BaseModel):
    """What became of the request to end a session."""

    message: str
    session_id: UUID
    reason: str | None


class OutputPage(BaseModel):
    """A piece of what a session printed. With `encoding=base64` it has `output_base64` in the place of `output`."""

    session_id: UUID
    output: str | None = None
    output_base64: str | None = None
    output_length: Bytes
    offset: Bytes
    next_offset: Bytes
    complete: bool = Field(description="Whether the session has ended and nothing follows.")
    status: Status
    retrieved_at: Instant


class Match(BaseModel):
    """A place of the text: its first byte, its bytes, and the entry of the log that brought the first."""

    offset: Bytes
    length: Bytes
    seq: int


class Matches(BaseModel):
    """Where a text stands in the output. `next_offset`: where to go on."""

    session_id: UUID
    matches: list[Match]
    next_offset: Bytes
    complete: bool = Field(description="Whether the session has ended and all of its output was looked through.")


class InputAccepted(BaseModel):
    """Input that is stored, and has its number among the session's inputs."""

    message: str
    session_id: UUID
    input_length: Bytes
    input_id: UUID
    input_seq: int


class Asked(BaseModel):
    """Something that was asked of a live session, and how far it has come."""

    message: str
    session_id: UUID
    input_id: UUID
    input_seq: int
    state: State


class Extended(Asked):
    """More time. `expires_at`: null while the session has not started."""

    expires_at: Instant | None


class Waited(BaseModel):
    """Whether it came true. `offset` and `text`: the match, if output was waited for."""

    matched: bool
    offset: Bytes | None
    text: str | None
    next_offset: Bytes | None
    status: Status


class TicketIssued(BaseModel):
    """A secret that opens one stream of one session, once."""

    ticket: str
    expires_at: Instant


class KeyWithSecret(KeyView):
    """A key, and its secret for the only time."""

    key: str


class WebhookWithSecret(WebhookView):
    """A webhook, and its secret for the only time: not in the answer to a repeat of the request."""

    secret: str | None = None


class QueuedAgain(BaseModel):
    """How many events will be sent again. `next_from`: the event to ask for next, if that is not all."""

    queued: int
    next_from: UUID | None


class Part(BaseModel):
    """How one part is."""

    status: Literal["healthy", "unhealthy", "not_configured"]
    stats: dict[str, Any] | None = None


class Health(BaseModel):
    """How the service is, and everything it depends on. `timestamp`: seconds since 1970."""

    status: Literal["healthy", "degraded", "unhealthy"]
    service: str
    version: str
    timestamp: float
    infrastructure: dict[str, Part]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Requests can be served."""

    status: Literal["ready"]
