"""Keys of the database as clients and the command line ask for them, and as they are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from app.api.schemas import Body, whole
from app.times import Instant  # noqa: TC001  (as above)
from core.api_keys import LONGEST_NAME
from core.errors import ValidationFailed
from core.rates import RULES, parse_rate
from models import api_keys
from models.api_keys import NameTaken, NewKey

if TYPE_CHECKING:
    from collections.abc import Collection

    from models import tables
    from models.api_keys import Shown
    from models.database import Transaction
    from models.events import Origin

LONGEST_OVERLAP_SECONDS: Final = 30 * 86400


def _instant(value: Any) -> datetime:
    try:
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError  # noqa: TRY301  (answered like any other bad time)
        return at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a time with its offset, like 2030-01-31T12:00:00Z") from None


def _rates(limits: dict[str, str]) -> dict[str, str]:
    for rule, rate in limits.items():
        if rule not in RULES:
            raise ValueError(f"has a rule that is none of {', '.join(RULES)}")
        parse_rate(rate)
    return limits


def _unique(permissions: list[str]) -> list[str]:
    return sorted(set(permissions))


When = Annotated[datetime, BeforeValidator(_instant)]
VISIBLE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]+$"
"""No control characters, and none that change how what follows is shown."""
KeyName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=VISIBLE)]


class KeyRequest(Body):
    """POST /keys. `owner`: the name, unless said otherwise."""

    name: KeyName
    owner: KeyName | None = None
    permissions: Annotated[
        list[Literal["read", "write", "admin"]], Field(min_length=1, max_length=3), AfterValidator(_unique)
    ]
    expires_at: When | None = None
    rate_limits: Annotated[dict[str, str], AfterValidator(_rates)] = Field(default_factory=dict)
    max_sessions: Annotated[int, Field(ge=1, lt=2**31), BeforeValidator(whole)] | None = None


class RotationRequest(Body):
    """POST /keys/{id}/rotate."""

    overlap_seconds: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_SECONDS), BeforeValidator(whole)] = 0


class KeyView(BaseModel):
    """A key as it is shown: everything but the key."""

    id: UUID
    name: str
    owner: str
    permissions: list[str]
    rate_limits: dict[str, str]
    max_sessions: int | None
    created_at: Instant
    created_by: str
    expires_at: Instant | None
    last_used_at: Instant | None
    rotated_at: Instant | None
    previous_expires_at: Instant | None
    revoked_at: Instant | None

    @classmethod
    def of(cls, row: tables.ApiKey) -> Self:
        """Show a row."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})

    def as_json(self) -> dict[str, Any]:
        """Return the members as they are written."""
        return self.model_dump(mode="json")


def with_key(shown: Shown) -> dict[str, Any]:
    """Return the members and the key itself, once."""
    return {**KeyView.of(shown.row).as_json(), "key": shown.key}


def create(tx: Transaction, wanted: KeyRequest, taken: Collection[str], origin: Origin, *, at: datetime) -> Shown:
    """Make a key. `taken`: names of the environment's keys. Raises ValidationFailed."""
    if wanted.expires_at is not None and wanted.expires_at <= at:
        raise _refused("expires_at", "must be in the future")
    new = NewKey(
        name=wanted.name,
        owner=wanted.owner or wanted.name,
        permissions=wanted.permissions,
        expires_at=wanted.expires_at,
        rate_limits=wanted.rate_limits,
        max_sessions=wanted.max_sessions,
    )
    if new.name in taken:
        raise _name_taken()
    try:
        return api_keys.create(tx, new, origin, at=at)
    except NameTaken:
        raise _name_taken() from None


def _name_taken() -> ValidationFailed:
    return _refused("name", "is the name of another key that is not revoked")


def _refused(member: str, why: str) -> ValidationFailed:
    return ValidationFailed(errors=[{"loc": [member], "msg": why, "type": "value_error"}])
