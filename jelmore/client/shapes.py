"""What the service sends and takes, as types. At run time they are plain dictionaries, and what a newer service adds is in them."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Status = Literal["initializing", "active", "idle", "waiting_input", "terminating", "completed", "terminated", "failed"]
Scope = Literal["read", "write"]
Mode = Literal["queue", "steer", "interrupt"]
Encoding = Literal["utf-8", "base64"]


class Terminal(TypedDict):
    """A terminal's window, in characters."""

    rows: int
    cols: int


class SessionFields(TypedDict, total=False):
    """What a new session may be given beside its query."""

    current_directory: str
    metadata: dict[str, Any]
    timeout_minutes: int
    program: str
    env: dict[str, str]
    terminal: Terminal
    idle_timeout_seconds: int
    priority: Literal["low", "normal", "high"]
    program_options: dict[str, Any]
    fork_of: str


class SessionFilter(TypedDict, total=False):
    """Which sessions are listed. `metadata`: members and their values. Times are ISO 8601. `limit`: a page's, 1 to 1000."""

    user_id: str
    status: Status | list[Status]
    program: str
    metadata: dict[str, str]
    created_after: str
    created_before: str
    limit: int


class Session(TypedDict):
    """A session as it is shown."""

    session_id: str
    status: Status
    query: str
    current_directory: str | None
    user_id: str | None
    claude_process_id: str | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str
    last_activity: str
    terminated_at: str | None
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
    started_at: str | None
    expires_at: str | None
    terminal: Terminal | None
    attempt: int
    priority: str
    idle_timeout_seconds: int | None
    queue_position: int | None
    program_options: dict[str, Any] | None
    usage: dict[str, Any] | None
    resumed_from: str | None
    fork_of: str | None


class ResumeFields(TypedDict, total=False):
    """What a session that goes on with another one's conversation may be given beside its query. The rest is as it was."""

    metadata: dict[str, Any]
    timeout_minutes: int
    env: dict[str, str]
    idle_timeout_seconds: int
    priority: Literal["low", "normal", "high"]
    program_options: dict[str, Any]


class Request(TypedDict):
    """What a program wants decided, and what became of it."""

    request_id: str
    session_id: str
    kind: Literal["permission", "question", "plan"]
    tool: str
    input: dict[str, Any]
    description: str | None
    state: Literal["open", "allowed", "denied", "withdrawn"]
    message: str | None
    changed_input: dict[str, Any] | None
    remember: str | None
    decided_by: str | None
    created_at: str
    decided_at: str | None


class OutputPage(TypedDict, total=False):
    """A page of output: `output` or, asked for with encoding="base64", `output_base64`. Offsets and lengths are bytes."""

    session_id: str
    output: str
    output_base64: str
    output_length: int
    offset: int
    next_offset: int
    complete: bool
    status: Status
    retrieved_at: str


class Receipt(TypedDict):
    """What is answered to input: it is durable, and has its place."""

    message: str
    session_id: str
    input_length: int
    input_id: str
    input_seq: int


class Input(TypedDict):
    """What was asked of a session, and how far it has come. Never the text."""

    input_id: str
    input_seq: int
    kind: str
    state: str
    reason: str | None
    bytes: int
    detail: dict[str, Any] | None
    metadata: dict[str, Any] | None
    output_offset: int | None
    actor: str
    created_at: str
    written_at: str | None


class Asked(TypedDict, total=False):
    """What is answered to signal, resize, eof, interrupt and extend."""

    message: str
    session_id: str
    input_id: str
    input_seq: int
    state: str
    expires_at: str | None


class Termination(TypedDict):
    """What is answered to the wish for a session's end."""

    message: str
    session_id: str
    reason: str | None


class Until(TypedDict, total=False):
    """What is waited for: exactly one of these. `regex`: RE2's syntax."""

    status: Status | list[Status]
    exit: Literal[True]
    text: str
    regex: str
    idle_ms: int


class Waited(TypedDict):
    """What a wait came to. `next_offset` is where the next one goes on."""

    matched: bool
    offset: int | None
    text: str | None
    next_offset: int
    status: Status


class Ticket(TypedDict):
    """A ticket for one stream: single use, half a minute."""

    ticket: str
    expires_at: str
