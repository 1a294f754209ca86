"""What facts from outside mean: of `/health`, of the key, and of the canary session through the real proxy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jelmore.doctor.findings import Finding, clock, clock_wrong, no_worker, note, pending, well, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jelmore.doctor.facts import Canary, Channel, Outside, Reached, Refusal

WEBSOCKET_HEADERS: Final = (
    "nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
    " proxy_set_header Connection $connection_upgrade;`."
)
RAISE_TIMEOUT: Final = (
    "Raise the proxy's read time-out well above HEARTBEAT_SECONDS (15) and WEBSOCKET_PING_SECONDS (20)"
    " (nginx: `proxy_read_timeout 60s;`), or lower those two."
)
TITLES: Final = {
    "database": ("PostgreSQL", "PostgreSQL does not answer the web process"),
    "redis": ("Redis", "Redis does not answer the web process"),
    "broker": ("broker", "The broker (CELERY_BROKER_URL) does not answer the web process"),
    "nats": ("NATS", "The mirror to NATS does not work"),
    "webhooks": ("webhooks", "Webhooks are not delivered to"),
}
KEY: Final = "API key"


def of_outside(found: Outside) -> Iterator[Finding]:
    """Say what was found from outside."""
    yield from _reached(found.reached)
    if found.reached.health is not None:
        yield from _health(found.reached.health)
        yield from clock("the web process's", found.reached.clock_ahead_seconds)
    if found.canary is not None:
        yield from of_canary(found.canary)


def _reached(reached: Reached) -> Iterator[Finding]:
    if reached.trouble is not None:
        yield wrong(
            "address",
            f"{reached.url} does not answer: {reached.trouble}.",
            "Is the web process running, and is the address right? From the machine itself: `curl -i …/health/live`.",
        )
    elif reached.health is None:
        yield wrong(
            "address",
            f"What answers at {reached.url}/health is not Jelmore (HTTP {reached.status}).",
            "502, 503 or 504 of a proxy: the web process is down or not where the proxy looks."
            if reached.status in (502, 503, 504)
            else "Correct the address, or have the proxy pass /health on.",
        )
    else:
        yield well("address", f"{reached.url} answers, version {reached.health.get('version')}.")


# Health.


def _health(health: Mapping[str, Any]) -> Iterator[Finding]:
    parts: Mapping[str, Any] = health.get("infrastructure") or {}
    reachable = _is_well(parts.get("database"))
    for name in TITLES:
        # Without PostgreSQL nothing can be said of what is read from it.
        if name in parts and (reachable or name in ("database", "redis", "broker")):
            yield from _part(name, parts[name], parts)
    if reachable:
        yield from _from_database(parts)


def _part(name: str, part: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Finding]:
    about, otherwise = TITLES[name]
    stats = part.get("stats") or {}
    if name == "broker" and part == parts.get("redis"):
        return  # the same server once more
    if part.get("status") == "not_configured":
        yield note(about, f"{about} is not configured.")
    elif _is_well(part):
        yield well(about, f"{about[0].upper()}{about[1:]}: well.")
    elif "rate_limits" in stats:
        yield wrong(about, "Redis answers too slowly: rate limits are counted per process.", "Look at its load.")
    else:
        sentence = str(stats.get("trouble") or otherwise)
        about_nats = "The mirror to NATS: " if name == "nats" else ""
        yield wrong(
            about,
            f"{about_nats}{sentence}.",
            "Start it or correct its address: `jelmore doctor` in the service's environment says more.",
        )


def _from_database(parts: Mapping[str, Any]) -> Iterator[Finding]:
    migrations, clocks, workers = (parts.get(name) or {} for name in ("migrations", "clock", "workers"))
    if lacking := (migrations.get("stats") or {}).get("pending"):
        yield pending([*lacking])
    elif _is_well(migrations):
        yield well("migrations", "No migration is pending.")
    if clocks and not _is_well(clocks):
        ahead = (clocks.get("stats") or {}).get("seconds_ahead_of_database")
        if ahead is not None:
            yield clock_wrong("The web process's clock", "PostgreSQL's", float(ahead))
    stats = workers.get("stats") or {}
    if not stats.get("alive"):
        yield no_worker()
    elif other := stats.get("other_code"):
        yield wrong(
            "workers",
            f"{other} of {stats['alive']} workers run{'s' if other == 1 else ''} other code than the web process.",
            "Restart what is old, unless a deployment is under way.",
        )
    else:
        yield well(
            "workers", f"Workers: {stats['alive']}, slots: {stats.get('slots')}; all with the web process's code."
        )


def _is_well(part: Mapping[str, Any] | None) -> bool:
    return bool(part) and part is not None and part.get("status") != "unhealthy"


# The canary session.


def of_canary(canary: Canary) -> Iterator[Finding]:
    """Say what the canary session met on its way."""
    if canary.trouble is not None:
        yield wrong(
            "canary session", f"The canary session broke off: {canary.trouble}.", "Ask again; see the proxy's log."
        )
    if canary.refusal is not None:
        yield _refused(canary.refusal)
        return
    if canary.replayed is not None:
        yield well(KEY, "The key is good.")
        yield from _headers(canary)
    if canary.trouble is None and not canary.started:
        why = f" ({canary.why})" if canary.why else ""
        yield wrong(
            "canary session",
            f"The canary session was accepted and has not started: it is `{canary.status}`{why}.",
            "Is a worker alive, with a free slot? `jelmore_session_queue_seconds` and Flower show the queue.",
        )
    elif canary.trouble is None:
        yield from _stream(canary)
        yield from _socket(canary)
    if canary.left_behind is not None:
        yield note("canary session", f"Session {canary.left_behind} could not be ended; it ends itself within minutes.")


def _refused(refusal: Refusal) -> Finding:
    name = "canary session"
    match (refusal.status, refusal.code):
        case (401, "API_KEY_REQUIRED"):
            return wrong(
                KEY,
                "The service got no key though one was sent: something on the way removes the Authorization header.",
                "Have the proxy pass it on (nginx does, unless `proxy_set_header Authorization` says otherwise).",
            )
        case (401, "INVALID_API_KEY"):
            return wrong(
                KEY,
                "The service does not know this key, or it was revoked or has expired.",
                "Correct JELMORE_API_KEY; `flask keys list` shows stored keys, API_KEYS holds the others.",
            )
        case (401, _):
            says = "Something before the service wants a log-in of its own (401, not in Jelmore's words)."
            return wrong(KEY, says, "Let requests with a key through the proxy's own authentication.")
        case (403, "INSUFFICIENT_PERMISSIONS"):
            return wrong(KEY, "The key may not create and read sessions.", "Use one with `read` and `write`.")
        case (422, "UNKNOWN_PROGRAM"):
            return wrong(
                name,
                f"The canary session's program is not enabled: {refusal.detail}.",
                "Name one that prints what it is sent, as `cat` does, with --program.",
            )
        case (429, _):
            when = f" Ask again in {refusal.retry_after} s." if refusal.retry_after else ""
            return wrong(name, f"A limit was reached: {refusal.detail}.", f"Rates or sessions of this key.{when}")
        case (_, None):
            says = f"Something on the way answered HTTP {refusal.status} instead of the service."
            return wrong(name, says, "Look into the proxy's log.")
    return wrong(name, f"The service refused the canary session: {refusal.status} {refusal.code}, {refusal.detail}.")


def _headers(canary: Canary) -> Iterator[Finding]:
    lost = [
        name
        for name, kept in (
            ("Idempotency-Key", canary.replayed),
            ("X-Request-ID", canary.request_id_kept),
            ("Last-Event-ID", canary.resumed),
        )
        if kept is False
    ]
    for name in lost:
        yield wrong("headers", f"The header {name} is lost on the way.", "Have the proxy pass it on, both ways.")
    if not lost and canary.started:
        yield well("headers", "Headers go through: keys, request ids, idempotency keys, resumed streams.")


def _stream(canary: Canary) -> Iterator[Finding]:
    about, stream = "event streams", canary.stream
    if stream.encoding:
        yield note(
            about, f"The proxy compresses event streams ({stream.encoding}).", "Leave text/event-stream out: it delays."
        )
    if stream.refusal is not None:
        yield _channel_refused(about, stream.refusal)
    elif stream.broke is not None:
        yield wrong(about, f"The event stream could not be opened: {stream.broke}.", "Look into the proxy's log.")
    elif stream.echo_after is None and not canary.printed:
        yield wrong(
            "canary session",
            "What was sent to the canary session was not printed in time.",
            "The worker or its machine is overloaded, or Redis and PostgreSQL are slow.",
        )
    elif stream.echo_after is None and stream.cut_after is None:
        yield wrong(
            about,
            "The proxy buffers event streams: output was there and came only at the session's end."
            if stream.late
            else "The proxy buffers event streams: output was there and did not come.",
            "Switch response buffering off for this service (nginx: no `proxy_ignore_headers X-Accel-Buffering`, or"
            " `proxy_buffering off;`; and no gzip of text/event-stream).",
        )
    else:
        yield from _life(about, "An event stream", stream)


def _socket(canary: Canary) -> Iterator[Finding]:
    about, socket = "WebSockets", canary.socket
    refusal = socket.refusal
    if refusal is not None and refusal.code in ("API_KEY_REQUIRED", "INVALID_API_KEY", "RATE_LIMITED"):
        yield _channel_refused(about, refusal)
    elif refusal is not None:
        yield wrong(
            about,
            f"WebSockets are blocked: the handshake was answered with HTTP {refusal.status}.",
            f"Have the proxy pass Upgrade and Connection on, with HTTP/1.1. {WEBSOCKET_HEADERS}",
        )
    elif socket.broke is not None:
        yield wrong(about, f"WebSockets are blocked: {socket.broke}.", WEBSOCKET_HEADERS)
    elif socket.echo_after is None and socket.cut_after is None:
        if canary.printed:
            says = "A WebSocket opens and nothing comes through it."
            yield wrong(about, says, "Something on the way answers for the service or holds its frames back.")
    else:
        yield from _life(about, "A WebSocket", socket)


def _channel_refused(about: str, refusal: Refusal) -> Finding:
    if refusal.status == 429:
        when = f"Ask again in {refusal.retry_after} s." if refusal.retry_after else "Ask again later."
        return wrong(about, f"A limit was reached: {refusal.detail}.", when)
    return wrong(about, f"Refused with HTTP {refusal.status}: {refusal.detail}.", "Look into the proxy's and our log.")


def _life(about: str, name: str, channel: Channel) -> Iterator[Finding]:
    if channel.cut_after is not None:
        says = f"{name} is cut by the proxy after {channel.cut_after:.0f} s of silence."
        yield wrong(about, says, RAISE_TIMEOUT)
    elif channel.again is False:
        says = f"{name} goes dead after a silence: what was printed then did not come."
        yield wrong(about, says, RAISE_TIMEOUT)
    elif not channel.ended:
        yield wrong(about, f"{name} does not tell the session's end.", "Look into the proxy's log.")
    else:
        milliseconds = (channel.echo_after or 0.0) * 1000
        idle = "" if channel.sign_after is None else " and survives silence"
        yield well(about, f"{name} brings output at once ({milliseconds:.0f} ms from input to echo){idle}.")
