"""Events over HTTP: pages that miss nothing, and a stream that goes on where one was."""

from __future__ import annotations

import http.client
import json
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from core.ids import uuid7
from models import outbox
from models.events import EventKind, NewEvent, Origin
from tests.checks import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from app.web import Web
    from tests.integration.app.serving import Api, Gunicorn

MANY: Final = 1_500
PATIENCE_SECONDS: Final = 15.0


def tell(web: Web, *payloads: dict[str, Any], owner: str = "ada", session_id: UUID | None = None) -> None:
    kind = EventKind.SESSION_INPUT if session_id else EventKind.KEY_ROTATED
    with web.database.transaction() as tx:
        at = datetime.now(UTC)
        outbox.add(tx, *(NewEvent(kind, owner, at, Origin("test"), session_id, each) for each in payloads))


def here(api: Api) -> str:
    """Return a position behind all there is."""
    after, last = "0" * 12 + "-" + "0" * 12, ""
    while page := api.as_("root-key").get(f"/events?limit=1000&after={last or after}").json():
        last = page[-1]["position"]
    return last or after


class Reader:
    """An open stream of events."""

    def __init__(self, port: int, key: str = "ada-key", query: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        self.connection.request(
            "GET", f"/api/v1/events/stream{query}", headers={"Authorization": f"Bearer {key}", **headers}
        )
        self.answer = self.connection.getresponse()

    def close(self) -> None:
        self.answer.close()
        self.connection.close()

    def events(self, *, checkpoints: bool = False) -> Iterator[dict[str, Any]]:
        fields: dict[str, Any] = {}
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                fields["data"] = json.loads(fields["data"])
                if checkpoints or fields["event"] != "checkpoint":
                    yield fields
                fields = {}

    def next(self, count: int) -> list[dict[str, Any]]:
        events = self.events()
        return [next(events) for _ in range(count)]


def test_pages_have_every_event_of_ones_own_once_and_in_order(api: Api, web: Web) -> None:
    start, session_id = here(api), uuid7()
    tell(web, *({"n": n} for n in range(25)), session_id=session_id)
    tell(web, {"n": "bob's"}, owner="bob")

    got: list[dict[str, Any]] = []
    query = f"/events?limit=10&after={start}"
    for _ in range(3):
        answer = api.get(query)
        got += answer.json()
        link = answer.headers.get("Link", "")
        query = link.partition(">")[0].removeprefix("</api/v1")
    assert not link
    assert [event["payload"]["n"] for event in got] == [*range(25)]
    assert api.get(f"/events?after={got[-1]['position']}").json() == []
    assert set(got[0]) == {
        *("event_type", "session_id", "event_id", "position", "payload", "timestamp", "request_id", "actor")
    }
    everybodys = api.as_("root-key").get(f"/events?after={got[-1]['position']}").json()
    assert [event["payload"]["n"] for event in everybodys] == ["bob's"]
    of_session = api.get(f"/events?session_id={session_id}&type=session.input&type=key.created&limit=1000").json()
    assert len(of_session) == 25
    assert api.as_("bob-key").get(f"/events?session_id={session_id}").json() == []
    since = got[0]["timestamp"]
    assert api.get(f"/events?after={start}&until={since}").json() == []


def test_an_event_that_is_committed_late_is_on_the_next_page(api: Api, web: Web) -> None:
    start = here(api)
    with ExitStack() as slow:
        early = slow.enter_context(web.database.transaction())
        at = datetime.now(UTC)
        outbox.add(early, NewEvent(EventKind.KEY_ROTATED, "ada", at, Origin("late"), None, {}))
        tell(web, {})
        assert api.get(f"/events?after={start}").json() == []
    assert [event["actor"] for event in api.get(f"/events?after={start}").json()] == ["late", "test"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("after=7", 400),
        ("after=", 400),
        ("after=ffffffffffffffff-000000000000", 400),
        ("type=session.gone", 422),
        ("limit=0", 422),
    ],
)
def test_what_is_no_filter_is_said_to_be_none(api: Api, query: str, status: int) -> None:
    assert api.get(f"/events?{query}").status_code == status
    if "limit" not in query:
        assert api.get(f"/events/stream?{query}").status_code == status


@pytest.fixture
def served(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Gunicorn:
    return gunicorns(variables)


def test_a_stream_brings_what_comes_and_goes_on_where_one_was(served: Gunicorn, web: Web) -> None:
    session_id = uuid7()
    with closing(Reader(served.port)) as reader:
        assert reader.next(1)[0]["event"] == "connected"
        tell(web, {"n": "bob's"}, owner="bob")
        tell(web, {"n": 1}, {"n": 2}, session_id=session_id)
        first, second = reader.next(2)
    assert [first["event"], first["data"]["payload"], second["data"]["payload"]] == [
        "session.input",
        {"n": 1},
        {"n": 2},
    ]
    assert first["id"] == first["data"]["position"]

    tell(web, {"n": 3}, session_id=session_id)
    with closing(Reader(served.port, **{"Last-Event-ID": first["id"]})) as reader:
        assert [event["data"]["payload"]["n"] for event in reader.next(3)[1:]] == [2, 3]
        tell(web, {"n": 4})
        assert reader.next(1)[0]["data"]["payload"]["n"] == 4
    with closing(Reader(served.port, query=f"?after={first['id']}&type=key.rotated")) as reader:
        assert reader.next(2)[1]["data"]["payload"] == {"n": 4}
        checkpoint = next(event for event in reader.events(checkpoints=True) if event["event"] == "checkpoint")
        assert checkpoint["id"] > second["id"]


def test_whoever_is_far_behind_gets_everything_and_delays_nobody(served: Gunicorn, gevent: Api, web: Web) -> None:
    start = here(gevent)
    with closing(Reader(served.port, query=f"?after={start}")) as slow, closing(Reader(served.port)) as quick:
        quick.next(1)
        for first in range(0, MANY, 100):
            tell(web, *({"n": n, "more": "x" * 2000} for n in range(first, first + 100)))
        assert [event["data"]["payload"]["n"] for event in quick.next(MANY)] == [*range(MANY)]
        assert [event["data"]["payload"]["n"] for event in slow.next(MANY + 1)[1:]] == [*range(MANY)]


def test_a_stream_ends_with_its_key(served: Gunicorn, gevent: Api) -> None:
    made = gevent.as_("root-key").post("/keys", {"name": f"k{uuid7()}", "owner": "ada", "permissions": ["read"]}).json()
    with closing(Reader(served.port, made["key"])) as reader:
        reader.next(1)
        gevent.as_("root-key").delete(f"/keys/{made['id']}")
        assert [event["event"] for event in reader.events()][-1] == "stream_error"

    def counted() -> int:
        text = gevent.client.get("/health").json()
        return int(text["infrastructure"]["websocket_manager"]["stats"]["total_connections"])

    eventually(lambda: counted() == 0)
