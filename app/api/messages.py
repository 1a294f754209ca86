"""What clients say over a WebSocket, as models: JSON objects whose `type` says which.

Each may have an `id`, which its answer has as well; that of an `input` is its idempotency key, too.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from app.api.requests import DecisionRequest
from app.api.schemas import INPUT_BYTES, Body, InputRequest, Mode, SessionId, SignalName, TerminalSize, at_most, whole
from app.bodies import validated
from core.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

Id = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]*$")]
EventName = Annotated[str, Field(min_length=1, max_length=64)]
Position = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(whole)]


class Message(Body):
    """Anything that is said."""

    type: str
    id: Id | None = None


class Ping(Message):
    """Ask whether somebody is there; answered by `pong`."""

    type: Literal["ping"]


class GetStatus(Message):
    """Ask for the status; answered by `status_response`."""

    type: Literal["get_status"]


class Subscribe(Message):
    """Ask for these kinds of events only (absent: all), and from behind an entry on; answered by `subscribed`."""

    type: Literal["subscribe"]
    events: Annotated[list[EventName], Field(max_length=64)] | None = None
    after: Position | None = None


class Input(Message):
    """Type something, as POST input does; answered by `input_received`."""

    type: Literal["input"]
    content: Annotated[str, at_most(INPUT_BYTES)]
    newline: bool = True
    raw: bool = False
    mode: Mode = "queue"

    def as_request(self) -> InputRequest:
        """Return the body of the POST that would do the same."""
        given = {name: getattr(self, name) for name in ("newline", "raw", "mode") if name in self.model_fields_set}
        return InputRequest(input=self.content, **given)


class Resize(TerminalSize, Message):
    """Set the terminal's size; answered by `command_result`."""

    type: Literal["resize"]


class Signal(Message):
    """Send a signal; answered by `command_result`."""

    type: Literal["signal"]
    signal: SignalName


class Eof(Message):
    """End the input; answered by `command_result`."""

    type: Literal["eof"]


class Interrupt(Message):
    """Do what ^C does; answered by `command_result`."""

    type: Literal["interrupt"]


class Answer(DecisionRequest, Message):
    """Decide what the program asked for, as POST requests/{request_id} does; answered by `command_result`."""

    type: Literal["answer"]
    request_id: SessionId


class Terminate(Message):
    """End the session; answered by `command_result`, before it has ended."""

    type: Literal["terminate"]
    reason: Annotated[str, Field(min_length=1, max_length=1000)] | None = None


MESSAGES: Final[Mapping[str, type[Message]]] = MappingProxyType(
    {
        "ping": Ping,
        "get_status": GetStatus,
        "subscribe": Subscribe,
        "input": Input,
        "resize": Resize,
        "signal": Signal,
        "eof": Eof,
        "interrupt": Interrupt,
        "answer": Answer,
        "terminate": Terminate,
    }
)


def understood(value: Any) -> Message:
    """Return a JSON value as the message it is. Raises ValidationFailed."""
    name = value.get("type") if isinstance(value, dict) else None
    model = MESSAGES.get(name) if isinstance(name, str) else None
    if model is not None:
        return validated(model, value)
    if not isinstance(value, dict):
        fault = {"loc": [], "msg": "Input should be a JSON object", "type": "value_error"}
    elif name is None:
        fault = {"loc": ["type"], "msg": "Field required", "type": "missing"}
    else:
        fault = {"loc": ["type"], "msg": f"must be one of {', '.join(MESSAGES)}", "type": "value_error"}
    raise ValidationFailed(errors=[fault])


def id_of(value: Any) -> str | None:
    """Return the id of a message that may be of no use otherwise."""
    given = value.get("id") if isinstance(value, dict) else None
    return given if isinstance(given, str) and 0 < len(given) <= 128 else None
