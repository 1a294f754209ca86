"""How Celery is set up, and sending by name. No task's body is imported here: the web tier sends, workers run.

Every option that is not obvious carries the accident that taught it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import kombu.utils.functional
import structlog
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Exchange
from kombu import Queue as KombuQueue
from kombu.exceptions import OperationalError as BrokerUnavailable
from redis import Redis

from core.ids import uuid7
from core.tracing import TRACING
from tasks.messages import Scribe, Sending, list_of

if TYPE_CHECKING:
    from uuid import UUID

    from core.settings import Settings
    from models.inputs import Bell

log = structlog.get_logger(__name__)

SESSIONS: Final = "sessions"
CONTROL: Final = "control"
RUN: Final = "jelmore.session.run"
LOOK: Final = "jelmore.session.look"
NUDGE: Final = "jelmore.worker.nudge"

PRIORITIES: Final = {"high": 0, "normal": 3, "low": 6}
"""Message priorities on the one queue; Redis keeps a list for each step of three, 0 first."""
SEND_SECONDS: Final = 1.0
BELL_EXPIRES_SECONDS: Final = 30
"""A bell older than that is of no use: the holder has looked by itself ten times."""

# With the plain `celery worker -P gevent`, kombu is imported before gevent patches `time` and keeps the sleeping kind of
# sleep: a lost broker then froze the hub for a minute, and with it every session. `python -m tasks.worker` patches first;
# this makes the typed command safe too.
kombu.utils.functional.sleep = time.sleep  # type: ignore[attr-defined]


def configured(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration."""
    transport = {
        # kombu's default is to wait for ever: a web request that published to a stopped Redis hung for 40 s.
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        # Early acknowledgement leaves nothing to redeliver; this must only not undercut other applications on the broker.
        "visibility_timeout": 12 * 3600,
        "priority_steps": sorted(PRIORITIES.values()),
        "queue_order_strategy": "priority",
    }
    return {
        "broker_url": settings.celery_broker_url,
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Redis is a hint and PostgreSQL the truth: under gevent a late acknowledgement was neither redelivered nor once.
        "task_acks_late": False,
        "task_ignore_result": True,
        "result_backend": None,
        # What is waiting in a worker's memory is lost with it, and cannot be taken by a worker with a free slot.
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_default_queue": CONTROL,
        "task_queues": [KombuQueue(name, Exchange(name), routing_key=name) for name in (SESSIONS, CONTROL)],
        "task_create_missing_queues": True,
        "worker_direct": True,
        # Flower.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "enable_utc": True,
    }


class SteadyConnection(Connection):
    """To the broker. Left to itself it waits ever longer, up to 30 s: so late, after an outage, would sessions begin."""

    def ensure_connection(self, *args: Any, **options: Any) -> SteadyConnection:
        """Connect, and try again every few seconds."""
        pauses = {"interval_start": 1, "interval_step": 1, "interval_max": 3}
        return super().ensure_connection(*args, **{**pauses, **options})


class Messaging(AMQP):
    """Celery's, with such connections."""

    Connection = SteadyConnection


def make_app(settings: Settings, *, current: bool = True) -> Celery:
    """Return a Celery application; nothing connects yet. `current`: it is the one this process is about."""
    made = Celery("jelmore", set_as_current=current, amqp=Messaging)
    made.conf.update(configured(settings))
    return made


def sender(settings: Settings) -> TaskQueue:
    """Return what sends without patience: by itself kombu tries for six seconds to reach a broker that refuses.

    An application of its own, because a worker that consumes must be patient. A connection that was lost in between is
    made anew all the same.
    """
    app = make_app(settings, current=False)
    patience = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **patience}
    return TaskQueue(app)


def direct_queue(node: str) -> KombuQueue:
    """Return a worker's own queue, addressed by name.

    Through the exchange `C.dq2` messages vanish without an error from a FLUSHALL until the worker reconnects; by name,
    through the anonymous exchange, they arrive.
    """
    return KombuQueue(direct_name(node))


def direct_name(node: str) -> str:
    """Return the name Celery gives a worker's own queue."""
    return f"{node}.dq2"


def redis_lists(name: str) -> list[str]:
    """Return the Redis keys under which the broker keeps a queue: a list for each step of priority."""
    return [list_of(name, step) for step in sorted(PRIORITIES.values())]


def open_broker(settings: Settings) -> Redis | None:
    """Return a client for the broker, if it is a Redis: only there are queues lists that can be seen and written."""
    if settings.celery_broker_url.startswith(("redis://", "rediss://", "unix://")):
        return Redis.from_url(settings.celery_broker_url, socket_timeout=2, socket_connect_timeout=1, protocol=2)
    return None


def start_of(session_id: UUID, priority: str, request_id: str | None) -> Sending:
    """Return the task that asks any worker with a free slot to run a session."""
    return Sending(RUN, session_id, SESSIONS, request_id, step=PRIORITIES[priority])


def look_of(session_id: UUID, node: str, request_id: str | None) -> Sending:
    """Return the task that tells the holder of a session to look into its mailbox."""
    return Sending(LOOK, session_id, direct_name(node), request_id, expires_seconds=BELL_EXPIRES_SECONDS)


@dataclass(frozen=True, slots=True)
class TaskQueue:
    """Sends tasks by name. A send that fails is nobody's error: housekeeping sends again, holders look by themselves."""

    app: Celery

    def start(self, session_id: UUID, *, priority: str = "normal", request_id: str | None = None) -> bool:
        """Ask any worker with a free slot to run a session; return whether the broker took it.

        Every send has a new task id: an id that was revoked never starts again.
        """
        return self.send(start_of(session_id, priority, request_id))

    def bell(self, bell: Bell, *, request_id: str | None = None) -> bool:
        """Tell the holder of a session to look into its mailbox; nothing to do while nobody holds it."""
        if bell.node is None:
            return True
        return self.send(look_of(bell.session_id, bell.node, request_id))

    def nudge(self, node: str) -> bool:
        """Wake a worker's consumer from its wait for messages."""
        return self._send(NUDGE, (), queue=direct_queue(node), expires=BELL_EXPIRES_SECONDS)

    def send(self, sending: Sending) -> bool:
        """Send a task by Celery's own means; return whether the broker took it."""
        return self._send(
            sending.name,
            (str(sending.session_id),),
            headers={"request_id": sending.request_id, **TRACING.carried()},
            queue=KombuQueue(sending.queue),
            priority=sending.step,
            expires=sending.expires_seconds,
        )

    def scribe(self, broker: Redis) -> Scribe:
        """Return what writes the same tasks for a broker that is a Redis."""
        return Scribe(self.app, int(broker.connection_pool.connection_kwargs.get("db") or 0))

    def _send(self, name: str, args: tuple[str, ...], **options: Any) -> bool:
        try:
            self.app.send_task(name, args=args, task_id=str(uuid7()), retry=False, ignore_result=True, **options)
        except (BrokerUnavailable, OSError) as fault:
            log.warning("task not sent", task=name, session_id=args[0] if args else None, error=str(fault))
            return False
        return True
