"""From errors to HTTP: one table, one shape.

Routes raise nothing of HTTP and catch nothing. What has no row here is our own mistake: 500, with a traceback in the log
and nothing of the inside in the answer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import structlog
import werkzeug.exceptions as http
from flask import g, jsonify
from werkzeug.routing import WebsocketMismatch

from app.times import iso
from app.web import current_web
from core import errors
from core.errors import JelmoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask, Response

log = structlog.get_logger(__name__)

STATUSES: Final[Mapping[type[JelmoreError], int]] = MappingProxyType(
    {
        errors.MalformedBody: 400,
        errors.InvalidPosition: 400,
        errors.RangeNotSatisfiable: 416,
        errors.KeyInQuery: 400,
        errors.HandshakeFaulty: 400,
        errors.LengthRequired: 411,
        errors.BodyTooLarge: 413,
        errors.UnsupportedMediaType: 415,
        errors.ValidationFailed: 422,
        errors.DirectoryNotAllowed: 422,
        errors.UnknownProgram: 422,
        errors.LineTooLong: 422,
        errors.IdempotencyKeyReused: 422,
        errors.ApiKeyRequired: 401,
        errors.InvalidApiKey: 401,
        errors.TicketInvalid: 401,
        errors.InsufficientPermissions: 403,
        errors.OriginNotAllowed: 403,
        errors.NotFound: 404,
        errors.SessionNotFound: 404,
        errors.RequestNotFound: 404,
        errors.WebhookNotFound: 404,
        errors.EventNotFound: 404,
        errors.MethodNotAllowed: 405,
        errors.OutputExpired: 410,
        errors.SessionEnded: 409,
        errors.SessionEnding: 409,
        errors.RequestSettled: 409,
        errors.SessionNotEnded: 409,
        errors.NoConversation: 409,
        errors.NotStarted: 409,
        errors.NoTerminal: 409,
        errors.IdempotencyInProgress: 409,
        errors.TooManyWebhooks: 409,
        errors.WebhookInactive: 409,
        errors.RateLimited: 429,
        errors.TooManySessions: 429,
        errors.TooManyStreams: 503,
        errors.TooManyStreamsOfKey: 429,
        errors.DatabaseUnavailable: 503,
        errors.Leaving: 503,
        errors.MetricsUnavailable: 503,
    }
)

# What Flask and werkzeug raise by themselves, in our words.
OURS: Final[Mapping[type[http.HTTPException], type[JelmoreError]]] = MappingProxyType(
    {
        http.NotFound: errors.NotFound,
        http.MethodNotAllowed: errors.MethodNotAllowed,
        http.LengthRequired: errors.LengthRequired,
        http.RequestEntityTooLarge: errors.BodyTooLarge,
        http.UnsupportedMediaType: errors.UnsupportedMediaType,
        WebsocketMismatch: errors.HandshakeFaulty,
        # ClientDisconnected above all: the body broke off.
        http.BadRequest: errors.MalformedBody,
    }
)

INTERNAL: Final = "Internal server error"


def install(app: Flask) -> None:
    """Answer every error in the one shape."""
    app.register_error_handler(JelmoreError, answer)
    app.register_error_handler(http.HTTPException, _theirs)
    app.register_error_handler(Exception, _unforeseen)


def shape(error: JelmoreError) -> dict[str, Any]:
    """Return the body of an error; the audit's rows name it by its code."""
    g.error_code = error.code
    body: dict[str, Any] = {
        "detail": error.detail,
        "error_code": error.code,
        "timestamp": iso(current_web().clock.at()),
    }
    if isinstance(error, errors.ValidationFailed):
        body["errors"] = error.errors
    if isinstance(error, errors.RateLimited):
        body |= _limits(error)
    return body


def _limits(error: errors.RateLimited) -> dict[str, Any]:
    return {
        "error": "Rate limit exceeded",
        "message": error.detail,
        "limit": error.limit,
        "window_seconds": error.window_seconds,
        "retry_after": error.retry_after_seconds,
        "remaining": 0,
    }


def answer(error: JelmoreError) -> Response:
    """Return the answer that tells an error."""
    status = STATUSES.get(type(error))
    if status is None:
        return _unforeseen(error)
    if isinstance(error, errors.DatabaseUnavailable):
        log.warning("the database does not answer", cause=str(error.__cause__))
    response: Response = jsonify(shape(error))
    response.status_code = status
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.RangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _theirs(error: http.HTTPException) -> Response:
    kind = next((ours for theirs, ours in OURS.items() if isinstance(error, theirs)), None)
    if kind is None:
        return _unforeseen(error)
    response = answer(kind())
    if isinstance(error, http.MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _unforeseen(error: Exception) -> Response:
    log.error("a request met an error nobody foresaw", exc_info=error)
    response: Response = jsonify(shape(JelmoreError(INTERNAL)))
    response.status_code = 500
    return response
