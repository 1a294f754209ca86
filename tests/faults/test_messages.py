"""What may be found in the queues: starts that come again, messages of a newer version, and what nobody understands."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from core.ids import uuid7
from core.settings import load_settings
from tasks.queue import LOOK, NUDGE, RUN, SESSIONS, direct_queue, make_app, redis_lists
from tests.checks import eventually, how, runs
from tests.programs.shell import ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from tests.service import Service

NEWER: dict[str, Any] = {
    "kwargs": {"region": "north", "since": 3},
    "headers": {"jelmore_version": "99.0", "flags": ["new"]},
}
"""What a newer web tier might add to a message."""
NO_SESSION: tuple[tuple[object, ...], ...] = ((), ("no id",), (None,), ([],), (17,), ({"a": 1},), (str(uuid4()),))


@pytest.fixture
def sender(separate: Service) -> Iterator[Celery]:
    app = make_app(load_settings(separate.env()), current=False)
    yield app
    app.close()


def send(app: Celery, name: str, args: tuple[object, ...], **options: Any) -> None:
    app.send_task(name, args=args, **options)


def queued(service: Service) -> list[Any]:
    """Return the bodies of the messages in the queue of starts: (args, kwargs, embedded)."""
    redis = service.redis()
    messages = [json.loads(message) for name in redis_lists(SESSIONS) for message in redis.lrange(name, 0, -1)]
    return [json.loads(base64.b64decode(message["body"])) for message in messages]


def forget_queued(service: Service) -> None:
    service.redis().delete(*redis_lists(SESSIONS))


@pytest.mark.case(55)
def test_a_start_says_the_sessions_id_and_nothing_else(elsewhere: Service) -> None:
    forget_queued(elsewhere)
    session_id = elsewhere.ada.create("true", metadata={"any": "thing"}, env={"A": "b"})

    assert [(args, kwargs) for args, kwargs, _ in queued(elsewhere)] == [([session_id], {})]


@pytest.mark.case(55)
def test_a_start_with_more_in_it_than_this_version_knows_runs(elsewhere: Service, sender: Celery) -> None:
    session_id = elsewhere.ada.create("read line; echo got $line")
    forget_queued(elsewhere)
    task_id = str(uuid7())
    send(sender, RUN, (session_id, "more", {"and": "more"}), task_id=task_id, queue=SESSIONS, **NEWER)
    said_before = len(elsewhere.worker("one").said())
    eventually(lambda: runs(elsewhere.ada.get(session_id)))

    assert elsewhere.ada.get(session_id)["task_id"] == task_id
    bell: dict[str, Any] = {"queue": direct_queue(node_of(elsewhere)), **NEWER}
    send(sender, LOOK, (session_id, "more"), **bell)
    send(sender, NUDGE, ("more",), **bell)
    elsewhere.ada.input(session_id, "hello")
    assert how(elsewhere.ada.events(session_id)[-1].data) == ("completed", "exited")
    assert elsewhere.ada.output(session_id) == b"got hello\n"
    assert "Traceback" not in elsewhere.worker("one").said()[said_before:]


def node_of(service: Service) -> str:
    (node,) = service.rows("SELECT node FROM workers WHERE lost_at IS NULL ORDER BY started_at DESC LIMIT 1")[0]
    return str(node)


@pytest.mark.case(55)
def test_messages_nobody_understands_cost_no_slot_and_no_session(staffed: Service, sender: Celery) -> None:
    worker = staffed.worker("one")
    running = staffed.ada.create(ANSWERS)
    eventually(lambda: runs(staffed.ada.get(running)))
    slots = int(staffed.seconds("WORKER_SLOTS"))
    node = node_of(staffed)
    for args in NO_SESSION * (slots // len(NO_SESSION) + 1):
        send(sender, RUN, args, queue=SESSIONS)
    for name in ("jelmore.session.dance", "", "os.system"):
        send(sender, name, (running,), queue=SESSIONS)
        send(sender, name, (running,), queue=direct_queue(node))
    for args in NO_SESSION:
        send(sender, LOOK, args, queue=direct_queue(node))

    sessions = [staffed.ada.create("read line; echo got $line") for _ in range(slots - 1)]
    eventually(lambda: all(runs(staffed.ada.get(each)) for each in sessions), 20, every=0.2)
    for session_id in [running, *sessions]:
        staffed.ada.input(session_id, "hello")
    for session_id in sessions:
        assert how(staffed.ada.events(session_id)[-1].data) == ("completed", "exited")
    assert staffed.ada.output(running).endswith(b"got hello\n")
    assert worker.alive


@pytest.mark.case(23)
def test_a_start_that_is_delivered_again_long_after_the_end_does_nothing(staffed: Service, sender: Celery) -> None:
    trace = staffed.home / "delivered-again"
    session_id = staffed.ada.create(f"echo run >> {trace}")
    first = staffed.ada.events(session_id)
    shown = staffed.ada.get(session_id)
    for _ in range(20):
        send(sender, RUN, (session_id,), task_id=str(uuid7()), queue=SESSIONS)
        send(sender, RUN, (session_id,), task_id=shown["task_id"], queue=SESSIONS)
    # The queue is first in, first out: when a later session has run, these were taken.
    staffed.ada.events(staffed.ada.create("true"))

    assert trace.read_text() == "run\n"
    assert staffed.ada.get(session_id) == shown
    assert [(event.id, event.event) for event in staffed.ada.events(session_id)] == [(e.id, e.event) for e in first]
