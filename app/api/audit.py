"""The audit, for administrators: who did what, to what, from where, and how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from flask import jsonify
from pydantic import BaseModel, Field

from app.api.key_schemas import When  # noqa: TC001  (as above)
from app.api.root import blueprint
from app.api.schemas import Name  # noqa: TC001  (as above)
from app.auth import requires
from app.keyring import Permission
from app.queries import Query, next_page, read_query
from app.times import Instant  # noqa: TC001  (as above)
from app.web import current_web
from models import audit
from models.audit import AuditQuery

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from models.tables import AuditRow


class Listing(Query):
    """GET /audit. `after` (included) and `before` (not) are times; `cursor`: from the Link of the page before."""

    actor: Name | None = None
    owner: Name | None = None
    action: Name | None = None
    target: Name | None = None
    outcome: Name | None = None
    request_id: Name | None = None
    after: When | None = None
    before: When | None = None
    cursor: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class AuditView(BaseModel):
    """A row as it is shown. `position` and `seal`: its place in the chain, a few seconds after it was written."""

    id: int
    at: Instant
    actor: str
    key_id: UUID | None
    owner: str | None
    action: str
    target: str | None
    outcome: str
    address: str | None
    request_id: str | None
    detail: dict[str, Any] | None
    position: int | None
    seal: str | None

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        """Show a row."""
        members = {name: getattr(row, name) for name in cls.model_fields}
        return cls(**members | {"seal": None if row.seal is None else bytes(row.seal).hex()})


@blueprint.get("/audit")
@requires(Permission.ADMIN)
def list_audit() -> ResponseReturnValue:
    """List audit rows, newest first."""
    wanted = read_query(Listing)
    query = AuditQuery(
        **wanted.model_dump(exclude={"after", "before", "cursor"}),
        since=wanted.after,
        until=wanted.before,
        before_id=wanted.cursor,
    )
    with current_web().database.transaction() as tx:
        rows = audit.list_rows(tx, query)
    more = next_page(str(rows[-1].id)) if len(rows) == wanted.limit else {}
    return jsonify([AuditView.of(row).model_dump(mode="json") for row in rows]), more
