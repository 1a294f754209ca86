"""What is written by hand for the broker, beside what Celery itself sends: the same members, and a real worker takes both alike."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
from celery.contrib.testing.worker import start_worker
from kombu import Queue as KombuQueue

from core.ids import uuid7
from core.settings import load_settings
from streams.wire import Wire
from tasks.queue import PRIORITIES, RUN, SESSIONS, look_of, make_app, open_broker, redis_lists, sender, start_of
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from core.settings import Settings
    from jelmore.embedded import Valkey
    from tasks.messages import Sending
    from tasks.queue import TaskQueue

SENDINGS = [
    *(start_of(UUID(int=7), priority, "a-request") for priority in PRIORITIES),
    start_of(UUID(int=8), "normal", None),
    look_of(UUID(int=9), "one@host", "another"),
]
IDS = {"id", "root_id", "correlation_id", "uuid", "delivery_tag", "reply_to"}
TIMES = {"expires", "timestamp", "clock"}


@pytest.fixture
def settings(valkey: Valkey) -> Settings:
    return load_settings({"REDIS_URL": valkey.url, "DATABASE_URL": "postgresql://nobody@localhost/nothing"})


@pytest.fixture
def broker(settings: Settings) -> Iterator[Redis]:
    client = open_broker(settings)
    assert client is not None
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def queue(settings: Settings) -> Iterator[TaskQueue]:
    opened = sender(settings)
    yield opened
    opened.app.close()


def taken_apart(message: bytes) -> dict[str, Any]:
    """Return a message with its body as what it says."""
    whole: dict[str, Any] = json.loads(message)
    return {**whole, "body": json.loads(base64.b64decode(whole["body"]))}


def without_chance(value: Any) -> Any:
    """Return what is the same each time: ids and times as their types alone."""
    if isinstance(value, dict):
        return {
            name: type(member).__name__ if name in IDS | TIMES else without_chance(member)
            for name, member in value.items()
        }
    return [without_chance(member) for member in value] if isinstance(value, list) else value


def sent(broker: Redis, send: Any, name: str) -> list[dict[str, Any]]:
    """Return what sending leaves in the queue, by the key of its list, and says on the channel of events."""
    events = broker.pubsub()  # type: ignore[no-untyped-call]
    events.psubscribe("*celeryev*")
    events.get_message(timeout=5)
    send()
    keys = [name, *redis_lists(name)[1:]]
    messages = {key: [taken_apart(cast("bytes", message)) for message in broker.lrange(key, 0, -1)] for key in keys}
    told = events.get_message(timeout=5)
    events.close()
    broker.delete(*keys)
    assert told is not None
    return [messages, {"channel": told["channel"], **taken_apart(told["data"])}]


@pytest.mark.parametrize("sending", SENDINGS, ids=lambda sending: f"{sending.name}-{sending.step}")
def test_a_message_written_by_hand_has_the_members_of_celerys_own(
    queue: TaskQueue, broker: Redis, sending: Sending
) -> None:
    scribe = queue.scribe(broker)

    theirs = sent(broker, lambda: queue.send(sending), sending.queue)
    ours = sent(broker, lambda: Wire(broker).ask(scribe.commands(sending)), sending.queue)

    assert without_chance(ours) == without_chance(theirs)


def test_the_ids_of_a_message_are_one_and_the_expiry_is_as_long(queue: TaskQueue, broker: Redis) -> None:
    ((_, name, message), (_, _, event)) = queue.scribe(broker).commands(SENDINGS[-1])

    headers, properties = taken_apart(message)["headers"], taken_apart(message)["properties"]
    told = taken_apart(event)["body"]

    assert name == "one@host.dq2"
    assert len({headers["id"], headers["root_id"], properties["correlation_id"], told["uuid"], told["root_id"]}) == 1
    assert headers["expires"] == told["expires"]
    assert properties["expiration"] == "30000"


def test_two_messages_have_nothing_in_common_that_should_tell_them_apart(queue: TaskQueue, broker: Redis) -> None:
    scribe = queue.scribe(broker)
    one, other = (taken_apart(scribe.commands(SENDINGS[0])[0][2]) for _ in range(2))

    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]


def test_a_real_worker_gets_the_same_from_both_in_order_of_priority(
    settings: Settings, queue: TaskQueue, broker: Redis
) -> None:
    app, got, done = make_app(settings, current=False), [], threading.Event()
    session_ids = [uuid7() for _ in range(6)]

    @app.task(name=RUN, bind=True, shared=False)
    def run(self: Any, session_id: str) -> None:
        request = self.request
        got.append((session_id, request.delivery_info["priority"], request.request_id, request.correlation_id))
        assert request.correlation_id == request.id == request.root_id
        if len(got) == len(session_ids):
            done.set()

    scribe = queue.scribe(broker)
    for number, session_id in enumerate(session_ids):
        sending = start_of(session_id, ("low", "normal", "high")[number // 2], f"request-{number}")
        if number % 2:
            queue.send(sending)
        else:
            Wire(broker).ask(scribe.commands(sending))
    app.conf.task_queues = [KombuQueue(SESSIONS)]
    with start_worker(app, pool="solo", perform_ping_check=False, queues=[SESSIONS], shutdown_timeout=20):
        eventually(done.is_set, 20)

    high_first = [4, 5, 2, 3, 0, 1]
    assert [UUID(each[0]) for each in got] == [session_ids[number] for number in high_first]
    assert [each[1:3] for each in got] == [
        (priority, f"request-{number}") for priority, number in zip((0, 0, 3, 3, 6, 6), high_first, strict=True)
    ]


def test_a_start_written_by_hand_can_be_revoked_by_its_id(settings: Settings, queue: TaskQueue, broker: Redis) -> None:
    app, got = make_app(settings, current=False), []

    @app.task(name=RUN, shared=False)
    def run(session_id: str) -> None:
        got.append(session_id)

    revoked, wanted = (queue.scribe(broker).commands(start_of(uuid7(), "normal", None)) for _ in range(2))
    app.conf.task_queues = [KombuQueue(SESSIONS)]
    with start_worker(app, pool="solo", perform_ping_check=False, queues=[SESSIONS], shutdown_timeout=20):
        app.control.revoke(taken_apart(revoked[0][2])["headers"]["id"])
        inspect = app.control.inspect(timeout=1)
        eventually(lambda: any((inspect.revoked() or {}).values()), 20)
        Wire(broker).ask([*revoked, *wanted])
        eventually(lambda: got, 20)

    assert got == [taken_apart(wanted[0][2])["body"][0][0]]


def test_other_brokers_are_not_written_to(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"celery_broker_url": "amqp://guest@localhost//"})

    assert open_broker(elsewhere) is None
