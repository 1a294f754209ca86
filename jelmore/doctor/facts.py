"""What is looked at, as it was found: no judgement. Seconds are seconds; None: not known, or never."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Server(_Facts):
    """A server that was asked. `trouble`: why it cannot be used, a sentence; `words`: what its library said."""

    trouble: str | None = None
    words: str | None = None
    version: str | None = None
    clock_ahead_seconds: float | None = None
    """By how much the clock of whoever asked is ahead of its own."""
    policy: str | None = None
    cluster: bool = False


class Migrations(_Facts):
    """Where the database is, and what it lacks."""

    at: str | None = None
    newest: str = ""
    pending: list[str] = []


class Worker(_Facts):
    """A worker that nobody has declared lost. `build`: the code it runs."""

    name: str
    host: str
    build: str
    slots: int
    silent_seconds: float
    draining: bool = False


class Mirror(_Facts):
    """What the mirror said last."""

    silent_seconds: float
    trouble: str | None = None


class Webhooks(_Facts):
    """Who is to be delivered to, and since when nobody was there to do it; -1: never."""

    active: int = 0
    waiting: int = 0
    silent_seconds: float = -1


class Inside(_Facts):
    """What `python -m app.doctor` found. `faults`: of the configuration; with one nothing else was looked at."""

    faults: list[str] = []
    build: str = ""
    lease_seconds: float = 20.0
    """After so long without a sign of life a worker is lost."""
    mirrored: bool = False
    postgres: Server | None = None
    refused: str | None = None
    """What PostgreSQL said when it refused a question."""
    migrations: Migrations | None = None
    workers: list[Worker] | None = None
    housekeeping_silent_seconds: float | None = None
    mirror: Mirror | None = None
    events_waiting_seconds: float = 0.0
    webhooks: Webhooks = Webhooks()
    redis: Server | None = None
    broker: Server | None = None
    nats: Server | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that was none of the expected ones. `code`: ours; None: somebody in between answered."""

    status: int
    code: str | None
    detail: str
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """How the service answers `/health`, through whatever stands before it."""

    url: str
    trouble: str | None = None
    """Why there was no answer."""
    status: int | None = None
    health: dict[str, Any] | None = None
    """None: what answered is not Jelmore."""
    clock_ahead_seconds: float | None = None
    """By how much the clock here is ahead of the web process's."""


@dataclass(slots=True)
class Channel:
    """A stream or a WebSocket of the canary session. Times are seconds."""

    refusal: Refusal | None = None
    broke: str | None = None
    """What ended it when it was to be opened."""
    opened_after: float | None = None
    """From the request to the first event."""
    echo_after: float | None = None
    """From the input to its echo; None: it did not come in time."""
    late: bool = False
    """Whether the echo came with the end of the session, not before."""
    cut_after: float | None = None
    """Of silence, after which somebody closed it."""
    sign_after: float | None = None
    """Of silence, after which a heartbeat or a ping came."""
    again: bool | None = None
    """Whether another echo came after the silence."""
    ended: bool = False
    """Whether the session's end was told."""
    encoding: str | None = None
    """How somebody compressed it."""


@dataclass(slots=True)
class Canary:
    """What became of the canary session."""

    refusal: Refusal | None = None
    trouble: str | None = None
    replayed: bool | None = None
    """Whether Idempotency-Key went through."""
    request_id_kept: bool | None = None
    started: bool = False
    status: str = ""
    why: str | None = None
    printed: bool = False
    """Whether the service has the echo."""
    stream: Channel = field(default_factory=Channel)
    socket: Channel = field(default_factory=Channel)
    resumed: bool | None = None
    """Whether Last-Event-ID went through."""
    left_behind: str | None = None
    """The session's id, if it could not be ended."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything that was seen from outside. `canary` is None if none was sent."""

    reached: Reached
    canary: Canary | None = None
