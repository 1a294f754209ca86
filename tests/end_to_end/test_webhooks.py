"""Webhooks: what happens reaches receivers, signed, in order per session, however they and the deliverers behave."""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from core.ids import uuid7
from core.settings import load_settings
from models import outbox
from models.database import Database
from models.events import EventKind, NewEvent, Origin
from tests.checks import eventually, holds_for, wait
from tests.receivers import ALLOWED, Receiver
from tests.service import BOB, FULL_LENGTH, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.client import Answer, Client
    from tests.member import Member
    from tests.receivers import Received
    from tests.service import Service

HOOKS: Final = "/api/v1/webhooks"
DOWN_SECONDS: Final = 60.0 if FULL_LENGTH else 3.0
AT_MOST_SECONDS: Final = 240.0 if FULL_LENGTH else 30.0
"""After a minute of failures the next attempt is up to 0.4 * 4 ** 4 s away."""
TIMES: Final = {
    "WEBHOOK_TIMEOUT_SECONDS": "1.5",
    "WEBHOOK_RETRY_FIRST_SECONDS": "0.4",
    "WEBHOOK_CONCURRENCY": "8",
}
"""Eight places, so that those which hang could take all of them."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    settings = {**TIMES, "WEBHOOK_ALLOW_PRIVATE": ALLOWED, "WORKER_SLOTS": "30"}
    with installed(tmp_path_factory.mktemp("hooked"), new_database(), **settings) as started:
        started.start("one")
        yield started


@pytest.fixture(scope="module")
def deliverers(service: Service) -> Iterator[list[Member]]:
    """Two of them: whatever is done, it is not done twice at once."""
    members = [service._member(f"webhooks-{number}", ("streams.webhooks",), {}) for number in (1, 2)]
    for member in members:
        member.start()
    yield members
    for member in members:
        member.stop()
    assert all("Traceback" not in member.said() for member in members)


@pytest.fixture
def ada(service: Service, deliverers: list[Member]) -> Iterator[Client]:
    for member in deliverers:
        member.start()
    yield service.ada
    for shown in service.ada.request("GET", HOOKS).json():
        service.ada.request("DELETE", f"{HOOKS}/{shown['id']}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    opened = Receiver()
    opened.up()
    yield opened
    opened.down()


@pytest.fixture
def database(service: Service) -> Iterator[Database]:
    opened = Database.open(load_settings({"DATABASE_URL": service.database_url}), pool_size=3)
    yield opened
    opened.close()


@pytest.fixture
def tell(service: Service, database: Database) -> Callable[..., list[str]]:
    """Let things happen to a session of ada's, or of somebody else's; return the events' ids."""

    def happen(session: UUID, count: int = 1, owner: str = "ada", kind: EventKind = INPUT) -> list[str]:
        for number in range(count):
            event = NewEvent(kind, owner, datetime.now(UTC), Origin("test"), session, {"input_seq": number})
            with database.transaction() as tx:
                outbox.add(tx, event)
        query = "SELECT id FROM events WHERE session_id = %s ORDER BY position DESC LIMIT %s"
        return [str(event) for (event,) in reversed(service.rows(query, str(session), count))]

    return happen


INPUT: Final = EventKind.SESSION_INPUT


def hook(ada: Client, url: str, **more: Any) -> dict[str, Any]:
    answer = ada.request("POST", HOOKS, {"url": url, **more})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json()
    return made


def patch(ada: Client, made: dict[str, Any], **changes: Any) -> Answer:
    answer = ada.request("PATCH", f"{HOOKS}/{made['id']}", changes)
    assert answer.status == 200, answer.body
    return answer


def log(ada: Client, made: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    """Return the log of a webhook, oldest first."""
    answer = ada.request("GET", f"{HOOKS}/{made['id']}/deliveries?limit=1000{query}")
    assert answer.status == 200, answer.body
    return list(reversed(answer.json()))


def show(ada: Client, made: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = ada.request("GET", f"{HOOKS}/{made['id']}").json()
    return shown


def by_session(received: list[Received]) -> dict[str | None, list[str]]:
    """Return for each session the positions that arrived, each where it arrived first."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for each in received:
        body = each.body
        if body["position"] not in found[body["session_id"]]:
            found[body["session_id"]].append(body["position"])
    return found


def refuse_disorder(receiver: Receiver) -> None:
    for session, positions in by_session(receiver.received).items():
        assert positions == sorted(positions), session


def refuse_unsigned(receiver: Receiver, secret: str) -> None:
    for each in receiver.received:
        body = each.verify(secret)
        assert each.id == body["event_id"]
        assert set(body) >= {"event_type", "session_id", "position", "payload", "timestamp", "actor", "request_id"}
    with pytest.raises(WebhookVerificationError):
        receiver.received[0].verify("whsec_" + "QUFB" * 10)


def told_of(service: Service, sessions: list[str]) -> set[str]:
    """Return the ids of all events of these sessions."""
    query = "SELECT id::text FROM events WHERE session_id = ANY(%s::uuid[])"
    return {event for (event,) in service.rows(query, sessions)}


def has_ended(ada: Client, session: str) -> bool:
    return ada.get(session)["terminated_at"] is not None


class OneAtATime:
    """What a receiver does to see whether two deliveries of one session overlap. `naps`: how long each takes."""

    def __init__(self, nap_seconds: float = 0.005) -> None:
        self.overlaps: list[str] = []
        self._nap_seconds = nap_seconds
        self._under_way: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, came: Received) -> None:
        session = str(came.body["session_id"])
        with self._lock:
            if session in self._under_way:
                self.overlaps.append(session)
            self._under_way.add(session)
        wait(self._nap_seconds)
        with self._lock:
            self._under_way.discard(session)


@contextmanager
def trap(host: str, port: int) -> Iterator[socket.socket]:
    """Listen where nobody may come."""
    with socket.create_server((host, port)) as listener:
        yield listener
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_receiver_that_was_down_gets_every_event_in_order_and_signed(
    service: Service, ada: Client, receiver: Receiver
) -> None:
    made = hook(ada, receiver.url())
    receiver.behave = watched = OneAtATime()
    begun = ada.create("true")
    eventually(lambda: receiver.received)
    receiver.down()
    stop, sessions = threading.Event(), [begun]

    def load() -> None:
        while not stop.wait(0.1):
            sessions.append(session := ada.create("cat", program="cat"))
            ada.input(session, "line")
            ada.delete(session, "?wait=0")

    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load) for _ in range(2)]
        wait(DOWN_SECONDS)
        failing = show(ada, made)["failures"]
        receiver.up()
        wait(DOWN_SECONDS / 3)
        stop.set()
    assert [each.exception() for each in loads] == [None, None]
    assert failing > 0
    for session in sessions:
        eventually(partial(has_ended, ada, session), AT_MOST_SECONDS)

    told = told_of(service, sessions)
    eventually(lambda: not told - {each.id for each in receiver.received}, AT_MOST_SECONDS)
    assert len(told) >= 4 * len(sessions) > 80
    refuse_disorder(receiver)
    refuse_unsigned(receiver, made["secret"])
    assert watched.overlaps == []
    eventually(lambda: show(ada, made)["failures"] == 0)
    eventually(lambda: {each["status"] for each in log(ada, made)} == {"delivered"})


def test_receivers_that_hang_fail_or_lead_elsewhere_delay_only_themselves(
    service: Service, ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    port, good = receiver.port, hook(ada, receiver.url("/good"))
    ada.request("POST", f"{HOOKS}/{good['id']}/ping")
    eventually(lambda: receiver.received)
    receiver.received.clear()
    with ExitStack() as stack:
        stack.enter_context(trap("127.0.0.1", port))
        bad = {
            "no answer within 1.5 s": hook(ada, receiver.url("/hang")),
            "HTTP 307: redirects are not followed": hook(
                ada, receiver.url(f"/redirect?http://127.0.0.1:{receiver.port}/")
            ),
            "refused: its address is private or reserved, and not in WEBHOOK_ALLOW_PRIVATE": hook(
                ada, f"http://localhost:{port}/name"
            ),
            "HTTP 500": hook(ada, receiver.url("/status/500")),
            "its name cannot be resolved": hook(ada, "http://nobody.invalid/"),
        }
        hanging = [hook(ada, receiver.url("/hang")) for _ in range(10)]
        for _ in range(10):
            hook(ada, receiver.url("/slow/1.2"))
        sessions = [uuid7() for _ in range(12)]
        for session in sessions:
            tell(session, 3)

        eventually(lambda: len(receiver.of("/good")) >= 36, 30)
        assert len({each.id for each in receiver.of("/good")}) == len(receiver.of("/good")) == 36
        assert show(ada, good)["failures"] == 0
        for words, made in bad.items():
            error = partial(lambda made: {each["error"] for each in log(ada, made)} - {None}, made)
            assert eventually(error, 30) == {words}
            assert {each["status"] for each in log(ada, made)} == {"pending"}
            assert all(each["next_attempt_at"] for each in log(ada, made) if each["attempts"])
        heads = [each for each in log(ada, hanging[0]) if each["next_attempt_at"]]
        assert len(heads) <= len(sessions), "one of each session is tried, the others wait behind it"
        eventually(lambda: b"jelmore_webhooks_failing 15.0" in service.client(None).request("GET", "/metrics").body, 30)


def test_a_deliverer_that_is_killed_in_the_midst_of_it_loses_nothing(
    ada: Client, deliverers: list[Member], receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url())
    held = threading.Event()
    receiver.behave = lambda _: held.wait(30) and None
    sessions = [uuid7() for _ in range(5)]
    told = {session: tell(session, 4) for session in sessions}
    eventually(lambda: len(receiver.received) >= 3)
    for member in deliverers:
        member.kill()
    under_way = {each.id for each in receiver.received}
    receiver.behave = watched = OneAtATime()
    held.set()
    for member in deliverers:
        member.start()

    wanted = {event for events in told.values() for event in events}
    eventually(lambda: {each["event_id"] for each in log(ada, made) if each["status"] == "delivered"} == wanted, 40)
    again = [each.id for each in receiver.received]
    assert {each for each in again if again.count(each) > 1} <= under_way, "only what was under way is sent again"
    refuse_disorder(receiver)
    assert {len(positions) for positions in by_session(receiver.received).values()} == {4}
    assert watched.overlaps == []


def test_what_waits_goes_where_the_webhook_points_now(
    ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url("/status/500"))
    session = uuid7()
    told = tell(session, 3)
    eventually(lambda: receiver.of("/status/500"))
    patch(ada, made, active=False)
    eventually(lambda: not any(each["error"] is None and each["attempts"] for each in log(ada, made)))
    skipped = tell(session, 1)
    patch(ada, made, url=receiver.url("/new"))
    holds_for(lambda: not receiver.of("/new"), 0.7)

    patch(ada, made, active=True)
    eventually(lambda: [each.id for each in receiver.of("/new")] == told)
    later = tell(session, 1)
    eventually(lambda: [each.id for each in receiver.of("/new")] == told + later)
    assert skipped[0] not in [each["event_id"] for each in log(ada, made)], "what was while it was off is not sent"


def test_a_webhook_that_is_removed_takes_what_waits_with_it(
    service: Service, ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url("/slow/0.8"))
    tell(uuid7(), 3)
    eventually(lambda: receiver.received)
    assert ada.request("DELETE", f"{HOOKS}/{made['id']}").status == 200
    count = len(receiver.received)

    holds_for(lambda: len(receiver.received) <= count, 1.2)
    assert ada.request("GET", f"{HOOKS}/{made['id']}").status == 404
    for table in ("webhook_deliveries", "webhook_lanes"):
        assert service.rows(f"SELECT count(*) FROM {table} WHERE webhook_id = %s", made["id"]) == [(0,)]


def test_receivers_that_ask_for_a_pause_or_are_gone_are_left_alone(
    ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    resting, gone = hook(ada, receiver.url("/retry-after/60")), hook(ada, receiver.url("/gone"))
    told = tell(uuid7(), 2) + tell(uuid7(), 1)
    eventually(lambda: show(ada, resting)["resting_until"])
    eventually(lambda: not show(ada, gone)["active"])

    assert show(ada, gone)["disabled_reason"] == "HTTP 410: the receiver wants nothing any more"
    dead = [each["event_id"] for each in log(ada, gone, "&status=dead")]
    assert set(dead) < set(told)
    tell(uuid7(), 1)
    count = len(receiver.of("/retry-after/60"))
    holds_for(lambda: len(receiver.of("/gone")) == len(dead) and len(receiver.of("/retry-after/60")) == count, 1.0)
    head = next(each for each in log(ada, resting) if each["attempts"])
    assert datetime.fromisoformat(head["next_attempt_at"]) > datetime.now(UTC)


def test_events_are_sent_again_on_demand_under_the_same_ids(
    ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    session = uuid7()
    before = tell(session, 2)
    made = hook(ada, receiver.url(), event_types=["session.input"])
    told = tell(session, 3)
    tell(session, 1, kind=EventKind.SESSION_CREATED)
    eventually(lambda: [each.id for each in receiver.received] == told)

    again = ada.request("POST", f"{HOOKS}/{made['id']}/redeliver?from={before[1]}")
    assert (again.status, again.json()) == (202, {"queued": 4, "next_from": None})
    eventually(lambda: [each.id for each in receiver.received] == [*told, before[1], *told])
    eventually(lambda: [each["status"] for each in log(ada, made)] == ["delivered"] * 4)
    for start in (str(uuid7()), tell(uuid7(), 1, owner="bob")[0]):
        unknown = ada.request("POST", f"{HOOKS}/{made['id']}/redeliver?from={start}")
        assert (unknown.status, unknown.json()["error_code"]) == (404, "EVENT_NOT_FOUND")


def test_a_ping_says_at_once_whether_a_receiver_is_there_and_who_it_is_from(
    ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url("/status/503"))
    tell(uuid7(), 2)
    asked = ada.request("POST", f"{HOOKS}/{made['id']}/ping")
    assert (asked.status, asked.json()["event_type"]) == (202, "webhook.ping")

    def of_ping() -> dict[str, Any]:
        return next(each for each in log(ada, made) if each["id"] == asked.json()["id"])

    eventually(lambda: of_ping()["status"] == "dead")
    assert (of_ping()["attempts"], of_ping()["error"], of_ping()["response_status"]) == (1, "HTTP 503", 503)
    patch(ada, made, url=receiver.url("/well"))
    eventually(lambda: {each["status"] for each in log(ada, made, "&status=pending")} == set())
    ada.request("POST", f"{HOOKS}/{made['id']}/ping")
    ping = eventually(lambda: next((each for each in receiver.of("/well") if "ping" in each.raw.decode()), None))
    body = ping.verify(made["secret"])
    assert (body["event_type"], body["payload"]) == ("webhook.ping", {"webhook_id": made["id"]})


def test_another_secret_signs_beside_the_one_before(
    ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url())
    other = "whsec_" + "c2VjcmV0" * 5
    changed = patch(ada, made, secret=other)
    tell(uuid7())
    came = eventually(lambda: receiver.received)[0]

    assert came.verify(made["secret"]) == came.verify(other)
    assert made["secret"] not in changed.body.decode()
    assert other not in changed.body.decode()
    assert changed.json()["previous_until"]


def test_events_of_others_go_to_others(
    service: Service, ada: Client, receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    bob = service.client(BOB)
    hers, his = hook(ada, receiver.url("/hers")), hook(bob, receiver.url("/his"))
    try:
        of_ada, of_bob = tell(uuid7(), 2), tell(uuid7(), 2, owner="bob")
        eventually(lambda: len(receiver.received) >= 4)
        assert [each.id for each in receiver.of("/hers")] == of_ada
        assert [each.id for each in receiver.of("/his")] == of_bob
    finally:
        bob.request("DELETE", f"{HOOKS}/{his['id']}")
    assert [shown["id"] for shown in ada.request("GET", HOOKS).json()] == [hers["id"]]


def test_without_anybody_who_delivers_health_says_so(
    service: Service, ada: Client, deliverers: list[Member], receiver: Receiver
) -> None:
    hook(ada, receiver.url())
    eventually(lambda: _part(service)["status"] == "healthy")
    service.rows("UPDATE housekeeping SET ran_at = ran_at - interval '1 hour' WHERE name = 'webhooks' RETURNING 1")
    found = _part(service)

    assert found["status"] == "unhealthy"
    assert found["stats"]["trouble"].startswith("webhooks have not been delivered to for 36")
    eventually(lambda: _part(service)["status"] == "healthy", 15)


def _part(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = service.client(None).request("GET", "/health").json()["infrastructure"]["webhooks"]
    return found


def test_a_deliverer_that_is_told_to_leave_ends_what_is_under_way(
    ada: Client, deliverers: list[Member], receiver: Receiver, tell: Callable[..., list[str]]
) -> None:
    made = hook(ada, receiver.url("/slow/0.7"))
    tell(uuid7(), 2)
    eventually(lambda: receiver.received)
    for member in deliverers:
        member.process and member.process.terminate()  # type: ignore[func-returns-value]
    assert [member.wait() for member in deliverers] == [0, 0]

    assert [each["status"] for each in log(ada, made)] == ["delivered", "pending"]
