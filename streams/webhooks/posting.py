"""One attempt: the request as the Standard Webhooks specification has it, sent without proxies, redirects or patience."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import orjson
from gevent import Timeout
from standardwebhooks import Webhook as Signer

from core.version import VERSION
from streams.webhooks.addresses import Refused
from streams.webhooks.targets import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.events import Envelope
    from streams.webhooks.addresses import Rules
    from streams.webhooks.targets import Target

MOST_BYTES: Final = 256 * 1024
"""Of a body. Payloads are small, but for the command of a session that was created."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt. `status` None: no answer. `kind`: for the metric; `words`: for the log, None if all is well."""

    kind: str
    words: str | None = None
    status: int | None = None
    retry_after_seconds: float = 0.0


def body_of(envelope: Envelope) -> bytes:
    """Return what is sent. A payload that is too large is left out, which it says."""
    body = orjson.dumps(envelope)
    if len(body) <= MOST_BYTES:
        return body
    return orjson.dumps({**envelope, "payload": {"left_out": True, "bytes": len(body)}})


def headers_of(message_id: str, body: bytes, secrets: Sequence[bytes], *, at: datetime) -> dict[str, str]:
    """Return the headers of a message: its id, which repeats keep, the time, and a signature by each secret."""
    text = body.decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Jelmore/{VERSION}",
        "Connection": "close",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Signer(secret).sign(message_id, at, text) for secret in secrets),
    }


def post(url: str, body: bytes, headers: dict[str, str], rules: Rules, *, seconds: float, at: datetime) -> Answer:
    """Send a message, and say how that went, within so many seconds in all."""
    try:
        target = parse(url)
    except ValueError as fault:  # what was taken once is not taken any more
        return Answer("refused", f"the URL {fault}")
    late = Timeout(seconds)
    late.start()
    try:
        return _posted(target, body, headers, rules, seconds, at)
    except Refused as fault:
        return Answer("refused", f"refused: {fault}")
    except Timeout as fault:
        if fault is not late:
            raise
        return Answer("timeout", f"no answer within {seconds:g} s")
    except TimeoutError:
        return Answer("timeout", f"no answer within {seconds:g} s")
    except (OSError, http.client.HTTPException, ValueError) as fault:
        return Answer("unreachable", _words(fault))
    finally:
        late.close()


def _posted(target: Target, body: bytes, headers: dict[str, str], rules: Rules, seconds: float, at: datetime) -> Answer:
    kind = http.client.HTTPSConnection if target.is_tls else http.client.HTTPConnection
    with closing(kind(target.host, target.port)) as connection:  # it knows what the Host header says
        connection.sock = rules.connect(target, seconds)
        connection.request("POST", target.path, body, headers)
        with closing(connection.getresponse()) as answer:
            status = answer.status
            waits = _seconds(answer.getheader("Retry-After"), at)
        # Nothing of the answer's body is of interest, and it may have no end: it is not read.
    if 200 <= status < 300:
        return Answer("delivered", None, status)
    if 300 <= status < 400:
        return Answer("redirect", f"HTTP {status}: redirects are not followed", status)
    return Answer("http_error", f"HTTP {status}", status, waits)


def _seconds(retry_after: str | None, at: datetime) -> float:
    """Return for how long the receiver wants to be left alone: it says so in seconds, or as a date."""
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - at).total_seconds())
    except (ValueError, TypeError, OverflowError):  # a date without a zone, or none
        return 0.0


def _words(fault: Exception) -> str:
    """Say what went wrong, without an address or anything else of the network's inside."""
    if isinstance(fault, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {fault.verify_message}"
    if isinstance(fault, ssl.SSLError):
        return "no TLS: the handshake failed"
    if isinstance(fault, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(fault, http.client.HTTPException):
        return "the answer is no HTTP"
    return "the connection failed or broke"
