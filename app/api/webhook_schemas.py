"""Webhooks as clients ask for them, and as they and their deliveries are shown."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from app.api.key_schemas import VISIBLE
from app.api.schemas import Body
from app.pages import Cursor  # noqa: TC001  (as above)
from app.queries import Query
from app.times import Instant  # noqa: TC001  (as above)
from core.errors import ValidationFailed
from models.events import EventKind
from streams.webhooks import targets
from streams.webhooks.addresses import Refused

if TYPE_CHECKING:
    from datetime import datetime

    from models import tables
    from streams.webhooks.addresses import Rules

PREFIX: Final = "whsec_"
SPELLING: Final = re.compile(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}")
SECRET_BYTES: Final = (24, 64)
"""As the Standard Webhooks specification has it."""
SESSIONS: Final = tuple(kind for kind in EventKind if kind.startswith("session."))


def _url(url: str) -> str:
    targets.parse(url)
    return url


def _secret(text: str) -> str:
    bytes_of(text)
    return text


def bytes_of(text: str) -> bytes:
    """Return a secret's bytes. Raises ValueError."""
    least, most = SECRET_BYTES
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True) if SPELLING.fullmatch(text) else b""
    except binascii.Error:
        secret = b""
    if not least <= len(secret) <= most:
        raise ValueError(f"must be {PREFIX} and {least} to {most} bytes as base64")
    return secret


def text_of(secret: bytes) -> str:
    """Return a secret as receivers' libraries take it."""
    return PREFIX + base64.b64encode(secret).decode()


def _unique(kinds: list[EventKind]) -> list[EventKind]:
    return sorted(set(kinds))


Url = Annotated[
    str,
    Field(min_length=1, max_length=targets.LONGEST_URL),
    AfterValidator(_url),
    WithJsonSchema(
        {"type": "string", "maxLength": targets.LONGEST_URL, "pattern": r"^https?://[^@#\\\s]+$", "format": "uri"}
    ),
]
Kind = Annotated[EventKind, Field(strict=False)]
Kinds = Annotated[list[Kind], Field(min_length=1, max_length=100), AfterValidator(_unique)]
Description = Annotated[str, Field(min_length=1, max_length=200, pattern=VISIBLE)]
Secret = Annotated[
    str,
    AfterValidator(_secret),
    WithJsonSchema({"type": "string", "pattern": f"^{SPELLING.pattern}$", "writeOnly": True}),
]


class WebhookRequest(Body):
    """POST /webhooks. `event_types`: all of sessions, unless said otherwise. `secret`: a random one, unless one is given."""

    url: Url
    event_types: Kinds = Field(default_factory=lambda: [*SESSIONS])
    description: Description | None = None
    active: bool = True
    secret: Annotated[Secret | None, Field(repr=False)] = None


class WebhookChange(Body):
    """PATCH /webhooks/{id}. What is not said stays. Another `secret`: for a day deliveries are signed with both."""

    url: Url | None = None
    event_types: Kinds | None = None
    description: Description | None = None
    active: bool | None = None
    secret: Annotated[Secret | None, Field(repr=False)] = None

    def changes(self) -> dict[str, Any]:
        """Return the columns that become others."""
        changes = {name: value for name, value in self.model_dump(exclude_unset=True).items() if value is not None}
        return changes | ({"secret": bytes_of(self.secret)} if self.secret is not None else {})


def refuse(url: str, rules: Rules) -> None:
    """Raise ValidationFailed for a URL that no delivery would go to, as far as that can be known without asking anybody."""
    try:
        rules.look(targets.parse(url))
    except Refused as fault:
        raise ValidationFailed(errors=[{"loc": ["url"], "msg": str(fault), "type": "value_error"}]) from None


class WebhookView(BaseModel):
    """A webhook as it is shown: everything but its secret. `failures`: attempts since the last that succeeded."""

    id: UUID
    owner: str
    url: str
    event_types: list[str]
    description: str | None
    active: bool
    disabled_reason: str | None = Field(description="Why the service switched it off by itself.")
    failures: int
    resting_until: Instant | None = Field(description="Nothing is sent before: the receiver asked for a pause.")
    previous_until: Instant | None = Field(description="Until when the secret before this one signs, too.")
    created_at: Instant
    created_by: str
    updated_at: Instant

    @classmethod
    def of(cls, row: tables.Webhook) -> Self:
        """Show a row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})

    def as_json(self) -> dict[str, Any]:
        """Return the members as they are written."""
        return self.model_dump(mode="json")


class Log(Query):
    """GET /webhooks/{id}/deliveries. `status`: pending, delivered, or dead - given up."""

    status: Literal["pending", "delivered", "dead"] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


class Again(Query):
    """POST /webhooks/{id}/redeliver. `from`: the id of an event; what follows it is sent again, too."""

    start: Annotated[UUID, Field(alias="from")]


class DeliveryView(BaseModel):
    """A delivery as it is shown. `next_attempt_at`: null while it waits for another of its session, and when it is over."""

    id: UUID
    event_id: UUID
    event_type: str
    session_id: UUID | None
    status: Literal["pending", "delivered", "dead"]
    attempts: int
    queued_at: Instant
    last_attempt_at: Instant | None
    next_attempt_at: Instant | None
    response_status: int | None
    error: str | None
    ended_at: Instant | None

    @classmethod
    def of(cls, row: tables.WebhookDelivery, next_attempt_at: datetime | None = None) -> Self:
        """Show a row."""
        own = {name: getattr(row, name) for name in cls.model_fields if not name.endswith("_attempt_at")}
        return cls(**own, last_attempt_at=row.tried_at, next_attempt_at=next_attempt_at)

    def as_json(self) -> dict[str, Any]:
        """Return the members as they are written."""
        return self.model_dump(mode="json")
