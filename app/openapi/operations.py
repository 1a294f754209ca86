"""Which models a route takes and answers with: one row a route. What all routes have in common is the document's."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from app.api import (
    audit,
    events,
    inputs,
    keys,
    listing,
    output,
    search,
    sessions,
    streams,
    tickets,
    waits,
    webhooks,
)
from app.api.audit import AuditView
from app.api.key_schemas import KeyRequest, KeyView, RotationRequest
from app.api.requests import DecisionRequest, Listing, RequestView
from app.api.schemas import (
    ExtendRequest,
    InputRequest,
    NoMembers,
    ResumeRequest,
    SessionRequest,
    SessionView,
    SignalRequest,
    TerminalSize,
)
from app.api.shown import InputView
from app.api.stats import StatsView
from app.api.webhook_schemas import Again, DeliveryView, Log, WebhookChange, WebhookRequest, WebhookView
from app.openapi import answers
from app.openapi.event_page import STREAMED, EventView
from app.openapi.parameters import CAST, LAST_PLACE, OCTETS, PLACE, PLACES, POSITIONS
from core import errors
from streams import cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from core.errors import JelmoreError

READ: Final = "read"
WRITE: Final = "write"
ADMIN: Final = "admin"
ANY: Final = "any"
"""Keys of every kind: what they are good for is looked at by the route itself."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `answers`: the model of each status, a list of it, or None where there is no JSON."""

    tag: str
    answers: Mapping[int, Any]
    permission: str | None = None
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    errors: tuple[type[JelmoreError], ...] = ()
    media: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Media types of a 200 besides JSON."""
    request_headers: tuple[str, ...] = ()
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    parameters: tuple[dict[str, Any], ...] = ()
    ticket: bool = False
    of_many: bool = False
    """Whether it is a stream of events that name their session."""


LIVE: Final = (errors.SessionEnded, errors.SessionEnding)
ONCE: Final = (errors.IdempotencyInProgress, errors.IdempotencyKeyReused)
OF_WEBHOOKS: Final = (errors.WebhookNotFound,)
PAGED: Final = MappingProxyType({200: ("Link",)})


def _asking(
    body: type[BaseModel], answer: type[BaseModel] = answers.Asked, *more: type[JelmoreError], **options: Any
) -> Operation:
    return Operation("Input", {200: answer, 202: answer}, WRITE, body=body, errors=(*LIVE, *more), **options)


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "api.create_session": Operation(
            "Sessions",
            {201: SessionView},
            WRITE,
            body=SessionRequest,
            errors=(
                *(errors.UnknownProgram, errors.DirectoryNotAllowed, errors.TooManySessions),
                *(errors.SessionNotFound, errors.NoConversation),
                *ONCE,
            ),
            request_headers=("Idempotency-Key",),
            headers={201: ("Location", "Idempotency-Replayed")},
        ),
        "api.list_sessions": Operation(
            "Sessions",
            {200: list[SessionView]},
            READ,
            query=listing.Listing,
            headers={200: ("Link", "X-Total-Count")},
        ),
        "api.show_session": Operation("Sessions", {200: SessionView}, READ),
        "api.terminate_session": Operation(
            "Sessions", {200: answers.EndAsked, 202: answers.EndAsked}, WRITE, query=sessions.Termination
        ),
        "api.show_output": Operation(
            "Output",
            {200: answers.OutputPage, 206: None},
            READ,
            query=output.Page,
            errors=(errors.InvalidPosition, errors.RangeNotSatisfiable, errors.OutputExpired),
            media={"text/plain": OCTETS},
            request_headers=("Range",),
            headers={200: ("Accept-Ranges",), 206: ("Accept-Ranges", "Content-Range")},
        ),
        "api.show_recording": Operation(
            "Output",
            {200: None},
            READ,
            errors=(errors.NoTerminal, errors.OutputExpired),
            media={cast.MIME_TYPE: CAST},
        ),
        "api.search_output": Operation(
            "Output",
            {200: answers.Matches},
            READ,
            query=search.Wanted,
            errors=(errors.InvalidPosition, errors.OutputExpired, errors.ValidationFailed),
        ),
        "api.stream_session": Operation(
            "Output",
            {200: None, 204: None},
            READ,
            query=streams.Filter,
            errors=(errors.InvalidPosition, errors.TooManyStreams, errors.TooManyStreamsOfKey),
            request_headers=("Last-Event-ID",),
            parameters=POSITIONS,
            ticket=True,
        ),
        "api.stream_sessions": Operation(
            "Output",
            {200: None, 204: None},
            READ,
            query=streams.Several,
            errors=(errors.InvalidPosition, errors.SessionNotFound, errors.TooManyStreams, errors.TooManyStreamsOfKey),
            parameters=PLACES,
            of_many=True,
        ),
        "api.open_websocket": Operation(
            "Output",
            {101: None},
            ANY,
            query=streams.Filter,
            errors=(errors.HandshakeFaulty, errors.InvalidPosition, errors.TooManyStreams, errors.TooManyStreamsOfKey),
            request_headers=("Last-Event-ID",),
            parameters=POSITIONS,
            ticket=True,
        ),
        "api.wait": Operation(
            "Output",
            {200: answers.Waited},
            READ,
            body=waits.WaitRequest,
            errors=(errors.InvalidPosition, errors.OutputExpired, errors.TooManyStreams),
        ),
        "api.send_input": Operation(
            "Input",
            {200: answers.InputAccepted},
            WRITE,
            body=InputRequest,
            errors=(*LIVE, errors.LineTooLong, *ONCE),
            request_headers=("Idempotency-Key",),
            headers={200: ("Idempotency-Replayed",)},
        ),
        "api.list_inputs": Operation("Input", {200: list[InputView]}, READ, query=inputs.Page),
        "api.send_signal": _asking(SignalRequest, answers.Asked, errors.NotStarted),
        "api.interrupt": _asking(NoMembers, answers.Asked, errors.NotStarted, body_required=False),
        "api.end_input": _asking(NoMembers, answers.Asked, errors.NoTerminal, body_required=False),
        "api.resize": _asking(TerminalSize, answers.Asked, errors.NoTerminal),
        "api.extend": _asking(ExtendRequest, answers.Extended),
        "api.list_requests": Operation("Requests", {200: list[RequestView]}, READ, query=Listing),
        "api.decide_request": Operation(
            "Requests",
            {200: answers.Asked, 202: answers.Asked},
            WRITE,
            body=DecisionRequest,
            errors=(*LIVE, errors.RequestNotFound, errors.RequestSettled),
        ),
        "api.resume_session": Operation(
            "Sessions",
            {201: SessionView},
            WRITE,
            body=ResumeRequest,
            errors=(
                *(errors.SessionNotEnded, errors.NoConversation, errors.UnknownProgram, errors.TooManySessions),
                *ONCE,
            ),
            request_headers=("Idempotency-Key",),
            headers={201: ("Location", "Idempotency-Replayed")},
        ),
        "api.issue_ticket": Operation("Keys", {201: answers.TicketIssued}, ANY, body=tickets.TicketRequest),
        "api.create_key": Operation(
            "Keys", {201: answers.KeyWithSecret}, ADMIN, body=KeyRequest, headers={201: ("Location",)}
        ),
        "api.list_keys": Operation("Keys", {200: list[KeyView]}, ADMIN, query=keys.Listing, headers=PAGED),
        "api.show_key": Operation("Keys", {200: KeyView}, ADMIN, errors=(errors.NotFound,)),
        "api.revoke_key": Operation("Keys", {200: KeyView}, ADMIN, errors=(errors.NotFound,)),
        "api.rotate_key": Operation(
            "Keys",
            {200: answers.KeyWithSecret},
            ADMIN,
            body=RotationRequest,
            body_required=False,
            errors=(errors.NotFound,),
        ),
        "api.create_webhook": Operation(
            "Webhooks",
            {201: answers.WebhookWithSecret},
            WRITE,
            body=WebhookRequest,
            errors=(errors.TooManyWebhooks, *ONCE),
            request_headers=("Idempotency-Key",),
            headers={201: ("Location", "Idempotency-Replayed")},
        ),
        "api.list_webhooks": Operation("Webhooks", {200: list[WebhookView]}, WRITE, query=webhooks.Page, headers=PAGED),
        "api.show_webhook": Operation("Webhooks", {200: WebhookView}, WRITE, errors=OF_WEBHOOKS),
        "api.change_webhook": Operation("Webhooks", {200: WebhookView}, WRITE, body=WebhookChange, errors=OF_WEBHOOKS),
        "api.delete_webhook": Operation("Webhooks", {200: WebhookView}, WRITE, errors=OF_WEBHOOKS),
        "api.ping_webhook": Operation(
            "Webhooks", {202: DeliveryView}, WRITE, errors=(*OF_WEBHOOKS, errors.WebhookInactive)
        ),
        "api.redeliver": Operation(
            "Webhooks",
            {202: answers.QueuedAgain},
            WRITE,
            query=Again,
            errors=(*OF_WEBHOOKS, errors.EventNotFound),
        ),
        "api.list_deliveries": Operation(
            "Webhooks", {200: list[DeliveryView]}, WRITE, query=Log, errors=OF_WEBHOOKS, headers=PAGED
        ),
        "api.list_audit": Operation("Audit", {200: list[AuditView]}, ADMIN, query=audit.Listing, headers=PAGED),
        "api.list_events": Operation(
            "Events",
            {200: list[EventView]},
            READ,
            query=events.Page,
            errors=(errors.InvalidPosition,),
            headers=PAGED,
            parameters=(PLACE,),
        ),
        "api.stream_events": Operation(
            "Events",
            {200: None},
            READ,
            query=events.Filter,
            errors=(errors.InvalidPosition, errors.TooManyStreams, errors.TooManyStreamsOfKey),
            media={"text/event-stream": STREAMED},
            parameters=(PLACE, LAST_PLACE),
        ),
        "api.show_stats": Operation("Service", {200: StatsView}, READ),
        "health.health": Operation("Service", {200: answers.Health, 503: answers.Health}),
        "health.live": Operation("Service", {200: answers.Alive}),
        "health.ready": Operation("Service", {200: answers.Ready}, errors=(errors.DatabaseUnavailable, errors.Leaving)),
        "health.show_metrics": Operation(
            "Service",
            {200: None},
            errors=(errors.MetricsUnavailable,),
            media={"text/plain": {"type": "string", "description": "Prometheus's text format."}},
        ),
    }
)
"""By the endpoint's name. Files and the document itself are not in it."""
