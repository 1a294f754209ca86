"""What the document says in words."""

from __future__ import annotations

from typing import Any, Final

DESCRIPTION: Final = """\
Runs interactive processes and streams what they print. Create a session, follow its stream, send input, read how it ended.

Every error has one shape: `detail`, for people, `error_code`, stable, and `timestamp`. Times are ISO 8601 in UTC. Ids are UUIDs; a
malformed one is unknown (404). Unknown members of a body are refused (422), unknown query parameters are ignored.

**Streams.** Entries of a session's log are numbered 1, 2, 3 …; the number is the event's `id`. Come again with `Last-Event-ID`, or
`after`, and the stream goes on behind that entry, on any process, also after the end; at the end of an ended session there is
nothing more, and the status is 204. `terminated` is always the last event, after the last byte.
"""

TAGS: Final = {
    "Sessions": "Processes, from their start to their end.",
    "Output": "What a session prints: read, awaited, followed.",
    "Input": "What is sent to a live session. Each is numbered, durable, and carried out in order.",
    "Requests": "What programs that converse want decided before they go on.",
    "Keys": "API keys, and tickets for browsers.",
    "Events": "What has happened, in order, for who must miss nothing. docs/events.md has every type.",
    "Webhooks": "Events, sent to addresses of yours: signed, in order per session, until they are taken.",
    "Audit": "Who did what. Rows are sealed into a hash chain.",
    "Service": "How the service is.",
}

WEBSOCKET: Final = """\
A WebSocket (RFC 6455, subprotocol `jelmore.v1`; a browser may offer its key as a second one, `bearer.KEY`). Messages are JSON
objects: those one sends have a `type`, and may have an `id`, which comes back with the answer; those that come have an `event`,
entries of the log also their `seq`. Refusals come before the handshake, as HTTP. Closes: 1000 after `terminated`, 1009 too large,
1011 an error of ours, 1012 come again elsewhere, 4401 the key is revoked or expired, 4404 no longer visible, 4408 silent, 4429 too
many messages.
"""

REASONS: Final = {
    101: "The socket is open.",
    200: "Done.",
    201: "Created.",
    202: "Accepted, and not carried out yet.",
    206: "The range, of the exact bytes.",
    204: "Everything was read: nothing follows.",
    503: "PostgreSQL is away.",
}

UNREADABLE: Final = {
    414: "`MALFORMED_BODY`: The address is too long.",
    431: "`MALFORMED_BODY`: The headers are too many, or too long.",
}
"""What is answered before it is known what is asked for."""

_COUNT: Final = {"schema": {"type": "string", "pattern": "^[0-9]+$"}}

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-ID": {
        "description": "Names the request in logs and the audit. One that is sent is kept if it is 1 to 128 of `A-Za-z0-9._-`.",
        "schema": {"type": "string"},
    },
    "Idempotency-Key": {
        "description": "Sent again with the same key and body, the request has its effect once, and the first answer comes back.",
        # Blanks within are the key's; those around it are HTTP's.
        "schema": {"type": "string", "pattern": "^[ \\t]*[!-~]([ -~]{0,126}[!-~])?[ \\t]*$"},
    },
    "Last-Event-ID": {
        "description": "The id of the last event one has: the stream goes on behind it.",
        "schema": {"type": "string", "pattern": "^[0-9]{0,18}$"},
    },
    "Range": {
        "description": "With `Accept: text/plain` and no position in the query: one range of bytes.",
        "schema": {"type": "string"},
    },
    "Accept-Ranges": {"description": "With `text/plain`.", "schema": {"type": "string", "const": "bytes"}},
    "Content-Range": {"description": "Which bytes, of how many there are now.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "The answer is the first one's.",
        "schema": {"type": "string", "const": "true"},
    },
    "Location": {"description": "Where it is.", "schema": {"type": "string"}},
    "Link": {"description": 'The next page: `<…>; rel="next"`. Not on the last one.', "schema": {"type": "string"}},
    "X-Total-Count": {"description": "With `count=true`: how many there are in all.", **_COUNT},
    "WWW-Authenticate": {"description": "How to show a key.", "schema": {"type": "string", "const": "Bearer"}},
    "Retry-After": {"description": "Seconds.", **_COUNT},
    "X-RateLimit-Limit": {"description": "Of the rule with the least remaining.", **_COUNT},
    "X-RateLimit-Remaining": {"description": "How many requests are left.", **_COUNT},
    "X-RateLimit-Reset": {"description": "When there is room again: seconds since 1970.", **_COUNT},
    "X-RateLimit-Window": {"description": "Seconds.", **_COUNT},
}
