"""What can go wrong for a client, as exceptions."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN: Final = 500
"""Characters of an answer that is not the service's own, which are put into the message."""


class ClientError(Exception):
    """Something went wrong between this client and the service."""


class ConnectionFailed(ClientError):
    """The service was not reached, or did not answer. Whether it has done what was asked is not known.

    `request_id` is the one the request was sent with: if it arrived, the service's log has it.
    """

    def __init__(self, detail: str, request_id: str | None = None, *, sent: bool = True) -> None:
        super().__init__(detail)
        self.request_id = request_id
        self.sent = sent
        """Whether the service may have got the request."""


class StreamBroken(ClientError):
    """A stream broke again and again without getting any further. `stream(after=last_id)` goes on where it was."""

    def __init__(self, last_id: int | None, cause: str) -> None:
        super().__init__(f"The stream broke off behind entry {last_id or 0} and could not be resumed: {cause}")
        self.last_id = last_id


class OutputLost(ClientError):
    """Some of the output is not there any more: removed after its retention, or lost with a worker and Redis at once.

    `stream` tells it as a `gap` and goes on behind it. `first_id`, `last_id`: the entries that are missing.
    """

    def __init__(self, gap: Mapping[str, Any]) -> None:
        self.first_id: int = int(gap.get("from", 0))
        self.last_id: int = int(gap.get("to", 0))
        self.reason: str = str(gap.get("reason"))
        super().__init__(f"Output is missing ({self.reason}): entries {self.first_id} to {self.last_id}.")


class UnreadableAnswer(ClientError):
    """What came back is not what the service sends: something else answers there."""


class ApiError(ClientError):
    """The service refused, or failed.

    `status`: HTTP's. `error_code`: stable and to be compared; None where something between us and the service answered.
    `errors`: each fault of an invalid request as {"loc", "msg", "type"}.
    """

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status = status
        self.error_code: str | None = _text(body.get("error_code"))
        self.detail: str = _text(body.get("detail")) or f"HTTP {status}"
        self.errors: list[dict[str, Any]] = list(body.get("errors") or [])
        self.request_id: str | None = headers.get("x-request-id")
        self.retry_after_seconds: float | None = _seconds(headers.get("retry-after"))
        faults = "; ".join(f"{'.'.join(map(str, fault.get('loc', ())))}: {fault.get('msg')}" for fault in self.errors)
        super().__init__(
            f"{self.detail}{f' ({faults})' if faults else ''}"
            f" [{status} {self.error_code or '-'}, request {self.request_id or '-'}]"
        )


class RequestRefused(ApiError):
    """The request is not valid: 400, 405, 411, 413, 415, 422."""


class AuthenticationFailed(ApiError):
    """No key, a wrong one, or a ticket that is used or expired: 401."""


class PermissionRefused(ApiError):
    """This key may not do that: 403."""


class NotFound(ApiError):
    """There is nothing here that this key may see: 404."""


class Conflict(ApiError):
    """The session is not in a state for that: 409."""


class Gone(ApiError):
    """It was there, and was removed after its retention: 410."""


class TooMany(ApiError):
    """Too many requests, sessions or streams: 429."""


class ServiceFailed(ApiError):
    """The service cannot do it now: 500 and above."""


KINDS: Final[Mapping[int, type[ApiError]]] = MappingProxyType(
    {401: AuthenticationFailed, 403: PermissionRefused, 404: NotFound, 409: Conflict, 410: Gone, 429: TooMany}
)


def api_error(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return what an answer of 300 or above says."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {"detail": f"HTTP {status}: {body[:SHOWN].decode(errors='replace').strip()}"}
    kind = KINDS.get(status, ServiceFailed if status >= 500 else RequestRefused)
    return kind(status, said, headers)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: str | None) -> float | None:
    """Return a Retry-After in seconds; one that is a date, which the service never sends, is as if it were absent."""
    return float(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 10 else None
