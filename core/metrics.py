"""Every metric of every process. Names begin with `jelmore_`; units are in the names.

The web tier runs several processes: with PROMETHEUS_MULTIPROC_DIR set (by the launcher or gunicorn.conf.py, before this is
imported) they share their numbers through files, and `render` adds them up.
"""

from __future__ import annotations

from typing import Final

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector

from core.settings import multiprocess_directory
from core.version import VERSION

log = structlog.get_logger(__name__)

SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter began would be a third of every answer

# Every process.
PROCESSES = Gauge(
    "jelmore_processes", "Processes behind this answer", ("process", "version"), multiprocess_mode="livesum"
)

# Web.
REQUESTS = Counter("jelmore_http_requests_total", "Requests answered", ("route", "method", "status"))
REQUEST_SECONDS = Histogram(
    "jelmore_http_request_seconds", "From the request's head to the answer's", ("route", "method"), buckets=SHORT
)
FOLLOWERS = Gauge("jelmore_stream_followers", "Open streams", ("transport",), multiprocess_mode="livesum")
WEBSOCKETS_CLOSED = Counter(
    "jelmore_websockets_closed_total", "WebSockets closed: our code, `client` or `lost`", ("code",)
)
STREAMS_ENDED = Counter(
    "jelmore_streams_ended_total", "Streams ended, and why: end, client, stalled, leaving, …", ("transport", "why")
)
STREAM_BYTES = Counter("jelmore_stream_bytes_total", "Bytes of logs that followers' sockets have taken")
STREAM_LAG_SECONDS = Histogram(
    "jelmore_stream_lag_seconds", "From reading what a program printed to sending it to all followers", buckets=SHORT
)
GAPS = Counter("jelmore_stream_gaps_total", "Gaps told to readers: history lost to retention")
HOLES = Counter("jelmore_relay_holes_total", "Holes of a ring filled from the log: doorbells lost, or without payload")
RATE_LIMITED = Counter("jelmore_rate_limited_total", "Requests refused by a rate limit", ("rule",))
RATE_LIMITS_ALONE = Counter(
    "jelmore_rate_limits_alone_total", "Requests counted by this process alone, because Redis did not answer"
)
SENDS_FAILED = Counter("jelmore_task_sends_failed_total", "Tasks the broker did not take", ("task",))
AUDIT_DROPPED = Counter("jelmore_audit_dropped_total", "Refusals and opened streams that came too fast to be noted")

# The log.
ENTRIES = Counter("jelmore_log_entries_total", "Entries appended to Redis")
OUTPUT_BYTES = Counter("jelmore_output_bytes_total", "Bytes read from sessions' processes")
SEGMENTS = Counter("jelmore_log_segments_total", "Segments stored in PostgreSQL")
APPEND_SECONDS = Histogram("jelmore_log_append_seconds", "One trip of the writer to Redis", buckets=SHORT)
STORE_SECONDS = Histogram("jelmore_log_store_seconds", "One transaction that stores segments", buckets=SHORT)
UNSAVED_BYTES = Gauge(
    "jelmore_log_unsaved_bytes",
    "Output in a worker's memory that PostgreSQL does not have yet",
    multiprocess_mode="livesum",
)

# Workers.
SESSIONS_STARTED = Counter("jelmore_sessions_started_total", "Processes started", ("program",))
SESSIONS_ENDED = Counter("jelmore_sessions_ended_total", "Ends written", ("program", "status", "reason"))
SESSIONS_FENCED = Counter("jelmore_sessions_fenced_total", "Sessions that were taken from their worker")
INPUTS_WRITTEN = Counter("jelmore_inputs_delivered_total", "Mailbox rows handed to sessions")
SLOTS_USED = Gauge("jelmore_worker_slots_used", "Sessions this worker runs or is starting", multiprocess_mode="livesum")
SLOTS_TOTAL = Gauge("jelmore_worker_slots", "Sessions this worker can run", multiprocess_mode="livesum")
LEASE_FAILURES = Counter("jelmore_worker_lease_failures_total", "Renewals PostgreSQL did not answer")
HUB_STALLS = Histogram("jelmore_hub_stall_seconds", "gevent's loop standing still", buckets=(0.3, 0.5, 1, 2, 5, 10, 30))
REDIS_ERRORS = Counter("jelmore_redis_errors_total", "Redis not answering", ("part",))
SESSIONS_LIVE = Gauge("jelmore_worker_sessions", "Sessions this worker holds", multiprocess_mode="livesum")
QUEUE_SECONDS = Histogram(
    "jelmore_session_queue_seconds", "From the creation of a session to its claim", buckets=(*SHORT, 30, 60, 300, 1800)
)
SPAWN_SECONDS = Histogram("jelmore_session_spawn_seconds", "From the claim to a running process", buckets=SHORT)
SESSIONS_KILLED = Counter("jelmore_sessions_killed_total", "Sessions whose grace was over, or that were given none")
KEEPERS_LOST = Counter("jelmore_keepers_lost_total", "Keepers that died, or ended their sessions with the lease")
HUB_LAG_SECONDS = Histogram(
    "jelmore_hub_lag_seconds",
    "How late gevent's loop wakes a sleeper",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1, 5),
)
ORPHANS_KILLED = Counter("jelmore_orphans_killed_total", "Processes found without their worker and keeper")

# Housekeeping.
STARTS_SENT_AGAIN = Counter("jelmore_starts_sent_again_total", "Start tasks the broker had forgotten")
HOUSEKEEPING_SECONDS = Histogram(
    "jelmore_housekeeping_round_seconds", "One round of housekeeping", buckets=(*SHORT, 30, 60)
)
WORKERS_LOST = Counter("jelmore_workers_lost_total", "Workers declared lost")
TAKEOVERS = Counter("jelmore_takeovers_total", "Sessions settled in the place of a lost worker")
AUDIT_SEALED = Counter("jelmore_audit_sealed_total", "Audit rows sealed into the chain")
AUDIT_FAULTS = Counter("jelmore_audit_faults_total", "Audit rows that could not be written or sealed", ("part",))
SEGMENTS_EXPIRED = Counter("jelmore_segments_expired_total", "Stretches of output removed after their retention")
SESSIONS_EXPIRED = Counter("jelmore_sessions_expired_total", "Sessions removed after their retention")
RESTARTS = Counter("jelmore_session_restarts_total", "Sessions that began again because their worker was lost")

# The mirror.
EVENTS_PUBLISHED = Counter("jelmore_events_published_total", "Messages NATS has acknowledged", ("kind",))
EVENTS_DEAD = Counter("jelmore_events_dead_total", "Events NATS refused: they went to the dead letters")
EVENTS_EXPIRED = Counter("jelmore_events_expired_total", "Events removed after their retention", ("published",))
MIRROR_TROUBLE = Counter("jelmore_mirror_trouble_total", "Times that NATS could not be used")
MIRROR_LEADS = Gauge(
    "jelmore_mirror_leads", "Mirrors that work here: one stands by, the other works", multiprocess_mode="livesum"
)
MIRROR_LAG_SECONDS = Histogram(
    "jelmore_mirror_lag_seconds", "From an event to its acknowledgement by NATS", buckets=(*SHORT, 30, 60, 300, 1800)
)

# Conversations.
AGENT_TURNS = Counter("jelmore_agent_turns_total", "Turns of conversations: success, error", ("outcome",))
AGENT_TOKENS = Counter("jelmore_agent_tokens_total", "Tokens that conversations have used, by kind", ("kind",))
AGENT_COST_USD = Counter(
    "jelmore_agent_cost_usd_total", "What conversations have cost by their own account, US dollars"
)

# Webhooks.
WEBHOOK_ATTEMPTS = Counter(
    "jelmore_webhook_attempts_total",
    "Attempts to deliver: delivered, http_error, redirect, timeout, unreachable, refused, removed",
    ("outcome",),
)
WEBHOOK_SECONDS = Histogram(
    "jelmore_webhook_attempt_seconds", "One attempt, from resolving the name to the answer", buckets=(*SHORT, 30, 60)
)
WEBHOOK_DEAD = Counter("jelmore_webhook_dead_total", "Deliveries that were given up")


# What stands in PostgreSQL: read when somebody scrapes a web process, the same from each of them.
NOW: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "jelmore_sessions": ("Live sessions", ("program", "status")),
    "jelmore_sessions_waiting": ("Sessions that wait for a slot", ()),
    "jelmore_sessions_waiting_seconds": ("How long the first of them waits", ()),
    "jelmore_workers_alive": ("Workers that are alive", ()),
    "jelmore_workers_slots": ("Sessions that they can run", ()),
    "jelmore_housekeeping_silent_seconds": ("Since when housekeeping has not run", ()),
    "jelmore_outbox_events": ("Events not mirrored yet, up to a hundred thousand", ()),
    "jelmore_outbox_seconds": ("Age of the oldest of them", ()),
    "jelmore_webhooks_active": ("Webhooks that are switched on", ()),
    "jelmore_webhooks_failing": ("Webhooks whose last attempt failed", ()),
    "jelmore_webhooks_waiting": ("Deliveries that wait for their turn, or for their next attempt", ()),
    "jelmore_webhooks_silent_seconds": ("Since when no process that delivers was there", ()),
    "jelmore_webhooks_lag_seconds": ("How long the oldest event has waited to be put into webhooks' queues", ()),
}
"""By name: what it is, and its labels. The outbox's only where events are mirrored."""

PORTS: Final = 16
"""So many processes of one host find a port of their own."""


def serve(process: str, port: int | None) -> None:
    """Name this process, and show its metrics on the first free port from this one on, if it is given one.

    Without a free one it goes on: nobody wants sessions to end because they cannot be counted.
    """
    PROCESSES.labels(process, VERSION).set(1)
    if port is None:
        return
    for candidate in range(port, min(port + PORTS, 65536)):
        try:
            start_http_server(candidate)
        except OSError as fault:
            taken = fault
        else:
            log.info("metrics are shown", port=candidate)
            return
    log.warning("METRICS_PORT cannot be used: no metrics", error=str(taken))


def render() -> tuple[bytes, str]:
    """Return (exposition text, content type) of this process, or of all web processes that share a directory."""
    if multiprocess_directory() is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
