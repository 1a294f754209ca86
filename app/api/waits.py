"""POST /sessions/{id}/wait: one request that is answered when something has come true of a session.

`offset` and `next_offset` are bytes of the output. Passed on as `from_offset`, `next_offset` makes the next wait go on where
this one ended: behind the match or, without one, before whatever a match may still begin with, so that none is missed. For
conditions that are not about the output's text it is where the output ends.

A pattern's match has at most 512 KiB, a large pattern's less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from app import waiting
from app.api.root import blueprint
from app.api.schemas import Body, at_most, whole
from app.auth import current_caller, requires
from app.bodies import read_body
from app.keyring import Permission
from app.web import current_web
from models.lifecycle import Status
from streams.match import Literal

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from app.waiting import Outcome, Standing
    from app.web import Web

TEXT_BYTES: Final = 4096
PATTERN_BYTES: Final = 1000
LONGEST_SECONDS: Final = 25
"""Platforms' routers cut requests after 30 s."""


def _exactly_one(schema: dict[str, Any]) -> None:
    """Say in a model's schema what `_one` checks."""
    names = [*schema["properties"]]
    schema["oneOf"] = [
        {
            "required": [name],
            "properties": {other: {"not": {"type": "null"}} if other == name else {"type": "null"} for other in names},
        }
        for name in names
    ]


class Until(Body):
    """What is waited for: exactly one member."""

    model_config = ConfigDict(json_schema_extra=_exactly_one)

    status: (
        Annotated[list[Annotated[Status, Field(strict=False)]], Field(min_length=1, max_length=len(Status))] | None
    ) = None
    exit: Annotated[bool, WithJsonSchema({"const": True})] | None = None
    text: Annotated[str, Field(min_length=1), at_most(TEXT_BYTES)] | None = None
    regex: Annotated[str, Field(min_length=1), at_most(PATTERN_BYTES)] | None = None
    idle_ms: Annotated[int, Field(ge=1, le=LONGEST_SECONDS * 1000), BeforeValidator(whole)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"needs exactly one of {', '.join(Until.model_fields)}")
        if self.exit is False:
            raise ValueError("exit can only be true")
        return self


class WaitRequest(Body):
    """POST /sessions/{id}/wait. `from_offset`: for `text` and `regex`, the byte of the output to look from."""

    until: Until
    from_offset: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(whole)] = 0
    timeout_seconds: Annotated[float, Field(ge=1, le=LONGEST_SECONDS, allow_inf_nan=False)] = 10

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.until.idle_ms or 0) > self.timeout_seconds * 1000:
            raise ValueError("idle_ms must not be longer than timeout_seconds")
        return self


@blueprint.post("/sessions/<session_id:session_id>/wait")
@requires(Permission.READ)
def wait(session_id: UUID) -> ResponseReturnValue:
    """Wait for something to come true; what has not when the time is over, or cannot any more, is `matched: false`."""
    web = current_web()
    wanted = read_body(WaitRequest)
    now = waiting.standing(web, session_id, current_caller().sees)
    outcome = _wait(web, now, wanted)
    found = outcome.found
    return {
        "matched": outcome.matched,
        "offset": found.offset if found else None,
        "text": found.data.decode(errors="replace") if found else None,
        "next_offset": outcome.next_offset,
        "status": outcome.status,
    }


def _wait(web: Web, now: Standing, wanted: WaitRequest) -> Outcome:
    until, seconds = wanted.until, wanted.timeout_seconds
    if until.status is not None:
        return waiting.until_status(web, now, seconds, until.status)
    if until.idle_ms is not None:
        return waiting.until_quiet(web, now, seconds, until.idle_ms / 1000)
    if until.text is not None:
        return waiting.until_printed(web, now, seconds, Literal(until.text.encode()), wanted.from_offset)
    if until.regex is not None:
        pattern = web.searches.pattern(until.regex, ("until", "regex"))
        return waiting.until_printed(web, now, seconds, pattern, wanted.from_offset)
    return waiting.until_exit(web, now, seconds)
