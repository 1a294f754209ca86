"""Everything that can go wrong and has a name: one tree, stable codes, no HTTP. `app.errors` maps classes to statuses.

The docstring of a class is its message: a sentence for the one who gets it. Library errors are translated into these once,
at the adapter that meets them.

Longer than other modules because it is one list: every error, with its code.
"""

from __future__ import annotations

from typing import Any, ClassVar


class JelmoreError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or type(self).__doc__ or self.code
        super().__init__(self.detail)


# The request cannot be understood.


class RequestFaulty(JelmoreError):
    """The request cannot be understood."""


class MalformedBody(RequestFaulty):
    """The body is not valid JSON."""

    code = "MALFORMED_BODY"


class ValidationFailed(RequestFaulty):
    """The request is not valid."""

    code = "VALIDATION_FAILED"

    def __init__(self, detail: str | None = None, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class UnsupportedMediaType(RequestFaulty):
    """The body must be application/json."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class BodyTooLarge(RequestFaulty):
    """The body is too large."""

    code = "BODY_TOO_LARGE"


class LengthRequired(RequestFaulty):
    """The body needs a Content-Length; chunked bodies are not taken."""

    code = "LENGTH_REQUIRED"


class InvalidPosition(RequestFaulty):
    """The position is not a number, or is beyond the end."""

    code = "INVALID_POSITION"


class RangeNotSatisfiable(InvalidPosition):
    """The range begins behind the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class KeyInQuery(RequestFaulty):
    """Keys do not belong into a URL, where logs keep them: send the Authorization header."""

    code = "KEY_IN_QUERY"


class HandshakeFaulty(RequestFaulty):
    """A WebSocket is opened here, or nowhere but on its own path."""

    code = "INVALID_HANDSHAKE"


class DirectoryNotAllowed(RequestFaulty):
    """The directory is not inside one of the session roots."""

    code = "DIRECTORY_NOT_ALLOWED"


class UnknownProgram(RequestFaulty):
    """There is no such program here."""

    code = "UNKNOWN_PROGRAM"


class LineTooLong(RequestFaulty):
    """A terminal in canonical mode takes lines of at most 4095 bytes."""

    code = "LINE_TOO_LONG"


class IdempotencyKeyReused(RequestFaulty):
    """This idempotency key was used with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"


# Who asks.


class ApiKeyRequired(JelmoreError):
    """API key required"""

    code = "API_KEY_REQUIRED"


class InvalidApiKey(JelmoreError):
    """Invalid API key"""

    code = "INVALID_API_KEY"


class TicketInvalid(JelmoreError):
    """The ticket is used, expired, or not for this."""

    code = "TICKET_INVALID"


class InsufficientPermissions(JelmoreError):
    """This key may not do that."""

    code = "INSUFFICIENT_PERMISSIONS"


class OriginNotAllowed(InsufficientPermissions):
    """Pages of this origin may not use this service."""


# What is asked for.


class NotFound(JelmoreError):
    """There is nothing here."""

    code = "NOT_FOUND"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "SESSION_NOT_FOUND"


class RequestNotFound(NotFound):
    """The session has not asked for such a decision."""

    code = "REQUEST_NOT_FOUND"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "WEBHOOK_NOT_FOUND"


class EventNotFound(NotFound):
    """There is no such event, or it was removed after its retention."""

    code = "EVENT_NOT_FOUND"


class MethodNotAllowed(JelmoreError):
    """This cannot be done here with that method."""

    code = "METHOD_NOT_ALLOWED"


class OutputExpired(JelmoreError):
    """The output of this session was removed after its retention."""

    code = "OUTPUT_EXPIRED"


class Conflict(JelmoreError):
    """The session is not in a state for that."""


class SessionEnded(Conflict):
    """The session has ended."""

    code = "SESSION_ENDED"


class SessionEnding(Conflict):
    """The session is being terminated."""

    code = "SESSION_ENDING"


class SessionNotEnded(Conflict):
    """The session is still live: its conversation is gone on with when it has ended. A branch of it can be had now: `fork_of`."""

    code = "SESSION_NOT_ENDED"


class NoConversation(Conflict):
    """The session has no conversation that could be gone on with."""

    code = "NO_CONVERSATION"


class RequestSettled(Conflict):
    """The request was decided already, or is not open any more."""

    code = "REQUEST_SETTLED"

    def __init__(self, state: str) -> None:
        super().__init__(f"The request is {state}: it takes no decision any more.")
        self.state = state


class NotStarted(Conflict):
    """The session has not started yet."""

    code = "NOT_STARTED"


class NoTerminal(Conflict):
    """The session has no terminal."""

    code = "NO_TERMINAL"


class IdempotencyInProgress(Conflict):
    """The first request with this idempotency key is still under way."""

    code = "IDEMPOTENCY_IN_PROGRESS"


# How much, and whether at all now.


class TooMany(JelmoreError):
    """Too many requests."""

    retry_after_seconds = 5


class RateLimited(TooMany):
    """Too many requests."""

    code = "RATE_LIMITED"

    def __init__(self, limit: int, window_seconds: int, retry_after_seconds: int) -> None:
        super().__init__(f"Too many requests: {limit} per {window_seconds} seconds")
        self.limit = limit
        self.window_seconds = window_seconds
        self.retry_after_seconds = retry_after_seconds


class TooManySessions(TooMany):
    """Too many sessions are live; try again when one has ended."""

    code = "TOO_MANY_SESSIONS"


class TooManyWebhooks(Conflict):
    """There are too many webhooks."""

    code = "TOO_MANY_WEBHOOKS"


class WebhookInactive(Conflict):
    """The webhook is switched off."""

    code = "WEBHOOK_INACTIVE"


class TooManyStreams(TooMany):
    """Too many streams are open."""

    code = "TOO_MANY_STREAMS"


class TooManyStreamsOfKey(TooManyStreams):
    """Too many streams are open with this key."""


class DatabaseUnavailable(JelmoreError):
    """The database does not answer; try again shortly."""

    code = "DATABASE_UNAVAILABLE"
    retry_after_seconds = 2


class Leaving(JelmoreError):
    """This process is about to end; another one serves."""

    code = "LEAVING"
    retry_after_seconds = 1


class MetricsUnavailable(JelmoreError):
    """The metrics are not available."""

    code = "METRICS_UNAVAILABLE"
    retry_after_seconds = 5


# Inside.


class ConfigurationError(JelmoreError):
    """The configuration is not valid."""

    code = "CONFIGURATION_ERROR"

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("The configuration is not valid:\n" + "\n".join(f"- {fault}" for fault in faults))


class TransitionRefused(JelmoreError):
    """A session cannot go that way."""

    code = "TRANSITION_REFUSED"

    def __init__(self, status: str, trigger: str) -> None:
        super().__init__(f"A session that is {status} cannot take {trigger}.")
        self.status = status
        self.trigger = trigger


class Fenced(JelmoreError):
    """Somebody else has the session now; nothing of ours may be written any more."""

    code = "FENCED"


class SpawnFailed(JelmoreError):
    """The process could not be started."""

    code = "SPAWN_FAILED"
