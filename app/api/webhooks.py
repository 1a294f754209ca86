"""Webhooks: made, listed, changed, removed; pinged, sent to again; and what became of each delivery."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID  # noqa: TC003  (beside the routes' arguments)

from flask import jsonify, url_for
from pydantic import Field

from app.api import webhook_schemas
from app.api.root import blueprint
from app.api.webhook_schemas import Again, DeliveryView, Log, WebhookChange, WebhookRequest, WebhookView
from app.auth import current_caller, requires
from app.bodies import read_body
from app.idempotency import Effect, once
from app.keyring import Permission
from app.origin import note
from app.pages import Cursor, next_page
from app.queries import Query, read_query
from app.web import current_web
from core.errors import EventNotFound, WebhookInactive
from models import deliveries, webhooks
from models.webhooks import NewWebhook
from streams.webhooks.targets import parse

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from models.database import Transaction

MOST_AGAIN: Final = 5000
"""Events that one request queues again; the answer says from where to go on."""


class Page(Query):
    """GET /webhooks."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Cursor | None = None


@blueprint.post("/webhooks")
@requires(Permission.WRITE)
def create_webhook() -> ResponseReturnValue:
    """Make a webhook. The answer is the only place where its secret is ever shown."""
    wanted = read_body(WebhookRequest)
    webhook_schemas.refuse(wanted.url, current_web().rules)
    return once("POST webhooks", wanted, partial(_create, wanted))


def _create(wanted: WebhookRequest, given: Transaction | None) -> Effect:
    web, caller = current_web(), current_caller()
    at = web.clock.at()
    new = NewWebhook(
        owner=caller.owner,
        created_by=caller.key_name,
        url=wanted.url,
        event_types=wanted.event_types,
        description=wanted.description,
        active=wanted.active,
        secret=webhook_schemas.bytes_of(wanted.secret) if wanted.secret is not None else None,
    )
    with web.database.transaction() if given is None else nullcontext(given) as tx:
        row = webhooks.create(tx, new, at=at)
        note(tx, "webhook.create", row.id, at=at, detail=_detail(row.url, row.event_types))
    secret = webhook_schemas.text_of(row.secret)
    location = url_for("api.show_webhook", webhook_id=row.id)
    return Effect(WebhookView.of(row).as_json(), 201, {"Location": location}, told_once={"secret": secret})


@blueprint.get("/webhooks")
@requires(Permission.WRITE)
def list_webhooks() -> ResponseReturnValue:
    """List webhooks, newest first."""
    wanted = read_query(Page)
    with current_web().database.transaction() as tx:
        found, more = webhooks.page(tx, current_caller().sees, limit=wanted.limit, before=wanted.cursor)
    return jsonify([WebhookView.of(row).as_json() for row in found]), next_page(found[-1].id) if more else {}


@blueprint.get("/webhooks/<webhook_id:webhook_id>")
@requires(Permission.WRITE)
def show_webhook(webhook_id: UUID) -> ResponseReturnValue:
    """Show one webhook."""
    with current_web().database.transaction() as tx:
        return WebhookView.of(webhooks.visible(tx, webhook_id, current_caller().sees)).as_json()


@blueprint.patch("/webhooks/<webhook_id:webhook_id>")
@requires(Permission.WRITE)
def change_webhook(webhook_id: UUID) -> ResponseReturnValue:
    """Change a webhook. What waits goes to the new URL; one that is switched off keeps what waits until it is on again."""
    web = current_web()
    wanted = read_body(WebhookChange)
    if wanted.url is not None:
        webhook_schemas.refuse(wanted.url, web.rules)
    changes = wanted.changes()
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = webhooks.locked(tx, webhook_id, current_caller().sees)
        if webhooks.change(tx, row, changes, at=at):
            deliveries.begin_anew(tx, row.id)
        note(tx, "webhook.update", row.id, at=at, detail={"changed": sorted(changes)})
    return WebhookView.of(row).as_json()


@blueprint.delete("/webhooks/<webhook_id:webhook_id>")
@requires(Permission.WRITE)
def delete_webhook(webhook_id: UUID) -> ResponseReturnValue:
    """Remove a webhook, with what waits for it and its log."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = webhooks.locked(tx, webhook_id, current_caller().sees)
        shown = WebhookView.of(row).as_json()
        webhooks.remove(tx, row)
        note(tx, "webhook.delete", webhook_id, at=at, detail=_detail(row.url, row.event_types))
    return shown


@blueprint.post("/webhooks/<webhook_id:webhook_id>/ping")
@requires(Permission.WRITE)
def ping_webhook(webhook_id: UUID) -> ResponseReturnValue:
    """Send a `webhook.ping`, once, ahead of all that waits. The log says how it went."""
    web = current_web()
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = webhooks.locked(tx, webhook_id, current_caller().sees)
        if not row.active:
            raise WebhookInactive
        delivery = deliveries.queue_ping(tx, row)
        note(tx, "webhook.ping", webhook_id, at=at)
    return DeliveryView.of(delivery, delivery.queued_at).as_json(), 202


@blueprint.post("/webhooks/<webhook_id:webhook_id>/redeliver")
@requires(Permission.WRITE)
def redeliver(webhook_id: UUID) -> ResponseReturnValue:
    """Send an event and all that follow it again, of the types this webhook is for: under the same ids, in the same order."""
    web = current_web()
    wanted = read_query(Again)
    at = web.clock.at()
    with web.database.transaction() as tx:
        row = webhooks.locked(tx, webhook_id, current_caller().sees)
        try:
            count, further = deliveries.queue_again(tx, row, wanted.start, limit=MOST_AGAIN)
        except LookupError:
            raise EventNotFound from None
        note(tx, "webhook.redeliver", webhook_id, at=at, detail={"from": str(wanted.start), "queued": count})
    return {"queued": count, "next_from": None if further is None else str(further)}, 202


@blueprint.get("/webhooks/<webhook_id:webhook_id>/deliveries")
@requires(Permission.WRITE)
def list_deliveries(webhook_id: UUID) -> ResponseReturnValue:
    """List deliveries, those queued last first: what waits, what arrived, what was given up."""
    wanted = read_query(Log)
    with current_web().database.transaction() as tx:
        webhooks.visible(tx, webhook_id, current_caller().sees)
        found, more = deliveries.log_page(tx, webhook_id, wanted.status, limit=wanted.limit, before=wanted.cursor)
    shown = [DeliveryView.of(row, due).as_json() for row, due in found]
    return jsonify(shown), next_page(found[-1][0].id) if more else {}


def _detail(url: str, event_types: list[str]) -> dict[str, Any]:
    """Return what the audit says: not the whole URL, whose path and query may be what lets one in."""
    return {"host": parse(url).host, "event_types": event_types}
