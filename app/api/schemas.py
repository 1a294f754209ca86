"""What clients send and get, as models: limits, defaults, spelling. Nothing here reads a database."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from app.api.shown import Usage
from app.times import Instant  # noqa: TC001  (as above)
from core.errors import LineTooLong

if TYPE_CHECKING:
    from models.tables import Session

KIB: Final = 1024
QUERY_BYTES: Final = 128_000
"""The kernel takes 128 KiB for one argument of a program."""
METADATA_BYTES: Final = 16 * KIB
INPUT_BYTES: Final = 64 * KIB
ENV_BYTES: Final = 64 * KIB
LINE_BYTES: Final = 4095
"""What the kernel's line editor keeps of a line typed at a terminal; it cuts off the rest without a word."""
LINE_END: Final = re.compile(rb"[\r\n]")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def at_most(limit: int) -> AfterValidator:
    """Return a check of a text's size in bytes."""

    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"must be at most {limit} bytes of UTF-8")
        return text

    return AfterValidator(check)


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA_BYTES:
        raise ValueError(f"must be at most {METADATA_BYTES} bytes of JSON")
    return metadata


def _variables(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if not VARIABLE.fullmatch(name):
            raise ValueError("names must be letters, digits and _, and not begin with a digit")
        if name.startswith("JELMORE_"):
            raise ValueError("names must not begin with JELMORE_")
    if sum(len(name) + len(value.encode()) + 2 for name, value in env.items()) > ENV_BYTES:
        raise ValueError(f"must be at most {ENV_BYTES} bytes in all")
    return env


def _signal(name: str) -> str:
    """Return a signal's name as the platform spells it, without SIG."""
    known = signal.Signals.__members__.get(f"SIG{name.upper().removeprefix('SIG')}")
    if known is None:
        raise ValueError("must be the name of a signal, such as INT or SIGINT")
    return known.name.removeprefix("SIG")


def whole(number: Any) -> Any:
    """Take 30.0 for 30, as JSON Schema does."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Name = Annotated[str, Field(min_length=1, max_length=256)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Environment = Annotated[dict[str, str], AfterValidator(_variables)]
Minutes = Annotated[int, Field(ge=1, le=1440), BeforeValidator(whole)]
IdleSeconds = Annotated[int, Field(ge=1, le=86_400), BeforeValidator(whole)]
Side = Annotated[int, Field(ge=1, le=4096), BeforeValidator(whole)]
SIGNALS: Final = "|".join(
    "".join(f"[{letter}{letter.lower()}]" if letter.isalpha() else re.escape(letter) for letter in name)
    for name in sorted(name.removeprefix("SIG") for name in signal.Signals.__members__)
)
SignalName = Annotated[
    str,
    AfterValidator(_signal),
    WithJsonSchema({"type": "string", "pattern": f"^([Ss][Ii][Gg])?({SIGNALS})$", "examples": ["INT"]}),
]


SessionId = Annotated[
    str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", json_schema_extra={"format": "uuid"})
]


class Body(BaseModel):
    """A JSON object of a client. Unknown members are refused; null in an optional one is as if it were absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("Input should be a JSON object")  # noqa: TRY004  (pydantic's validators answer with it)
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: member for name, member in value.items() if member is not None or name not in optional}


class TerminalSize(Body):
    """A terminal's window, in characters."""

    rows: Side
    cols: Side


class SessionRequest(Body):
    """POST /sessions."""

    query: Annotated[str, Field(min_length=1), at_most(QUERY_BYTES)]
    user_id: Name | None = None
    current_directory: Annotated[str, Field(min_length=1), at_most(4095)] | None = None
    metadata: Metadata = Field(default_factory=dict)
    timeout_minutes: Minutes | None = None
    program: Name | None = None
    env: Environment = Field(default_factory=dict)
    terminal: TerminalSize | None = None
    idle_timeout_seconds: IdleSeconds | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    program_options: dict[str, Any] | None = None
    fork_of: SessionId | None = None


class ResumeRequest(Body):
    """POST /sessions/{id}/resume. What is left out is as it was."""

    query: Annotated[str, Field(min_length=1), at_most(QUERY_BYTES)]
    metadata: Metadata | None = None
    timeout_minutes: Minutes | None = None
    env: Environment = Field(default_factory=dict)
    idle_timeout_seconds: IdleSeconds | None = None
    priority: Literal["low", "normal", "high"] | None = None
    program_options: dict[str, Any] | None = None


Mode = Literal["queue", "steer", "interrupt"]


class InputRequest(Body):
    """POST /sessions/{id}/input."""

    input: Annotated[str, at_most(INPUT_BYTES)]
    metadata: Metadata | None = None
    newline: bool = True
    raw: bool = False
    mode: Mode = "queue"
    """Of programs that converse: behind what is said already, as early as it can be taken, or at once."""

    def exact(self, *, terminal: bool) -> bytes:
        """Return the bytes the program gets: with the end of a line, unless it is there or not wanted.

        At a terminal that is what Enter sends. Raises LineTooLong for what a terminal would cut off.
        """
        body = self.input.encode()
        if self.raw:
            return body
        ends, end = ((b"\r", b"\n"), b"\r") if terminal else ((b"\n",), b"\n")
        if terminal and max(map(len, LINE_END.split(body))) > LINE_BYTES:
            raise LineTooLong(
                f"A terminal takes lines of at most {LINE_BYTES} bytes. "
                "To a program that reads key by key `raw` sends longer ones all the same."
            )
        return body + end if self.newline and not body.endswith(ends) else body


class NoMembers(Body):
    """POST /sessions/{id}/eof and /interrupt."""


class SignalRequest(Body):
    """POST /sessions/{id}/signal. `signal`: a name, with or without SIG, in any case."""

    signal: SignalName


class ExtendRequest(Body):
    """POST /sessions/{id}/extend. Counted from now."""

    timeout_minutes: Minutes


class SessionView(BaseModel):
    """A session as every answer shows it."""

    session_id: UUID
    status: str
    query: str
    current_directory: str | None
    user_id: str | None
    claude_process_id: str | None
    metadata: dict[str, Any]
    created_at: Instant
    updated_at: Instant
    last_activity: Instant
    terminated_at: Instant | None
    output_buffer_size: int
    program: str
    owner: str
    exit_code: int | None
    exit_signal: str | None
    reason: str | None
    reason_detail: str | None
    error: str | None
    output_bytes: int
    last_seq: int
    worker: str | None
    task_id: str | None
    flower_url: str | None
    """The page of its task in Flower, where there is one."""
    started_at: Instant | None
    expires_at: Instant | None
    terminal: dict[str, Any] | None
    attempt: int
    priority: str
    idle_timeout_seconds: int | None
    queue_position: int | None
    program_options: dict[str, Any] | None
    usage: Usage | None
    resumed_from: UUID | None
    fork_of: UUID | None

    @classmethod
    def of(cls, session: Session, queue_position: int | None, flower: str | None) -> Self:
        """Show a row. `flower`: where Flower is. What the client put into `env` is never shown."""
        return cls(
            session_id=session.id,
            status=session.status,
            query=session.query,
            current_directory=session.current_directory,
            user_id=session.user_id,
            claude_process_id=None if session.pid is None else str(session.pid),
            metadata=session.metadata_,
            created_at=session.created_at,
            updated_at=session.updated_at,
            last_activity=session.last_activity_at,
            terminated_at=session.ended_at,
            output_buffer_size=session.output_bytes,
            program=session.program,
            owner=session.owner,
            exit_code=session.exit_code,
            exit_signal=session.exit_signal,
            reason=session.reason,
            reason_detail=session.reason_detail,
            error=session.error,
            output_bytes=session.output_bytes,
            last_seq=session.last_seq,
            worker=session.worker_name,
            task_id=session.claim,
            flower_url=f"{flower.rstrip('/')}/task/{session.claim}" if flower and session.claim else None,
            started_at=session.started_at,
            expires_at=session.expires_at,
            terminal=session.terminal,
            attempt=session.attempt,
            priority=session.priority,
            idle_timeout_seconds=session.idle_timeout_seconds,
            queue_position=queue_position,
            program_options=session.program_options,
            usage=Usage.of(session.program_state),
            resumed_from=session.resumed_from,
            fork_of=session.fork_of,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the members as they are written."""
        return self.model_dump(mode="json")

    def as_text(self) -> str:
        """Return the members as JSON."""
        return self.model_dump_json()
