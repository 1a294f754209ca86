"""A client for Jelmore's HTTP API, in two kinds: `JelmoreClient` for asyncio (or trio) and `BlockingJelmoreClient`.

    client = JelmoreClient("http://localhost:8000", "your-api-key")
    session = await client.create_session("make test", program="shell")
    async for event in client.stream(session["session_id"]):
        print(event.text, end="")

Both have the same methods. Streams go on by themselves where a connection broke, without loss and without repetition; requests
are repeated where that is safe. What the service refuses is an `ApiError`. Everything has a limit: `Limits`.
"""

from __future__ import annotations

from jelmore.client.asynchronous import JelmoreClient
from jelmore.client.blocking import BlockingJelmoreClient
from jelmore.client.errors import (
    ApiError,
    AuthenticationFailed,
    ClientError,
    Conflict,
    ConnectionFailed,
    Gone,
    NotFound,
    OutputLost,
    PermissionRefused,
    RequestRefused,
    ServiceFailed,
    StreamBroken,
    TooMany,
    UnreadableAnswer,
)
from jelmore.client.events import Event
from jelmore.client.limits import Limits
from jelmore.client.shapes import (
    Asked,
    Input,
    OutputPage,
    Receipt,
    Session,
    Terminal,
    Termination,
    Ticket,
    Waited,
)

__all__ = [
    # Clients.
    "JelmoreClient",
    "BlockingJelmoreClient",
    "Limits",
    # What comes back.
    "Asked",
    "Event",
    "Input",
    "OutputPage",
    "Receipt",
    "Session",
    "Terminal",
    "Termination",
    "Ticket",
    "Waited",
    # What goes wrong.
    "ClientError",
    "ApiError",
    "RequestRefused",
    "AuthenticationFailed",
    "PermissionRefused",
    "NotFound",
    "Conflict",
    "Gone",
    "TooMany",
    "ServiceFailed",
    "ConnectionFailed",
    "StreamBroken",
    "OutputLost",
    "UnreadableAnswer",
]
