"""Keys of the database: create, show, list, rotate, revoke. For administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID  # noqa: TC003  (pydantic reads the annotations)

from flask import jsonify, url_for
from pydantic import Field

from app.api import key_schemas
from app.api.key_schemas import KeyRequest, KeyView, RotationRequest
from app.api.root import blueprint
from app.auth import requires
from app.bodies import read_body, read_optional_body
from app.keyring import Permission
from app.origin import note, origin
from app.queries import Query, next_page, read_query
from app.web import current_web
from core.errors import NotFound
from models import api_keys

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


class Listing(Query):
    """GET /keys. `revoked`: whether revoked ones are listed, too."""

    revoked: bool = False
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: UUID | None = None


@blueprint.post("/keys")
@requires(Permission.ADMIN)
def create_key() -> ResponseReturnValue:
    """Make a key. The answer is the only place where it is ever shown."""
    web = current_web()
    wanted = read_body(KeyRequest)
    at = web.clock.at()
    with web.database.transaction() as tx:
        shown = key_schemas.create(tx, wanted, web.keyring.environment_names, origin(), at=at)
        detail = {"name": shown.row.name, "owner": shown.row.owner, "permissions": shown.row.permissions}
        note(tx, "key.create", shown.row.id, at=at, detail=detail)
    return key_schemas.with_key(shown), 201, {"Location": url_for("api.show_key", key_id=shown.row.id)}


@blueprint.get("/keys")
@requires(Permission.ADMIN)
def list_keys() -> ResponseReturnValue:
    """List keys, newest first."""
    wanted = read_query(Listing)
    with current_web().database.transaction() as tx:
        found = api_keys.list_keys(tx, with_revoked=wanted.revoked, limit=wanted.limit, before=wanted.cursor)
    more = next_page(str(found[-1].id)) if len(found) == wanted.limit else {}
    return jsonify([KeyView.of(row).as_json() for row in found]), more


@blueprint.get("/keys/<key_id:key_id>")
@requires(Permission.ADMIN)
def show_key(key_id: UUID) -> ResponseReturnValue:
    """Show one key."""
    with current_web().database.transaction() as tx:
        row = api_keys.find(tx, key_id)
    if row is None:
        raise NotFound("There is no such key.")
    return KeyView.of(row).as_json()


@blueprint.delete("/keys/<key_id:key_id>")
@requires(Permission.ADMIN)
def revoke_key(key_id: UUID) -> ResponseReturnValue:
    """Revoke a key: within 5 s no request gets in with it, within 30 s its streams are closed."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = api_keys.revoke(tx, key_id, origin(), at=at)
        note(tx, "key.revoke", key_id, at=at, detail={"name": row.name})
    web.keyring.forget(key_id)
    return KeyView.of(row).as_json()


@blueprint.post("/keys/<key_id:key_id>/rotate")
@requires(Permission.ADMIN)
def rotate_key(key_id: UUID) -> ResponseReturnValue:
    """Give a key a new secret. The old one is taken as long as both are said to overlap."""
    web = current_web()
    overlap = read_optional_body(RotationRequest).overlap_seconds
    at = web.clock.at()
    with web.database.transaction() as tx:
        shown = api_keys.rotate(tx, key_id, overlap, origin(), at=at)
        note(tx, "key.rotate", key_id, at=at, detail={"name": shown.row.name, "overlap_seconds": overlap})
    web.keyring.forget(key_id)
    return key_schemas.with_key(shown)
