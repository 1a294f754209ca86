"""GET stream?sessions=…: several sessions in one stream, in a plain process (a generator) and on detached sockets."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from models.tables import AuditRow
from tests.checks import eventually
from tests.integration.app.test_http_revocation import Open, bearer, made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from app.web import Web
    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api, Gunicorn


class Event(NamedTuple):
    id: str | None
    event: str
    data: dict[str, Any]

    @property
    def whose(self) -> str:
        return str(self.data.get("session_id"))


def parse(lines: Iterable[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("id"), fields["event"], json.loads(fields["data"]))
            fields = {}


def path(*session_ids: object, **more: object) -> str:
    query = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/stream?sessions={','.join(map(str, session_ids))}{query}"


def events_of(api: Api, *session_ids: object, last_id: str | None = None, **more: object) -> list[Event]:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    answer = api.get(path(*session_ids, **more), headers=headers)
    assert answer.status_code == 200, answer.text
    return list(parse(answer.text.split("\n")))


@pytest.fixture
def two(api: Api, holder: Holder) -> list[UUID]:
    """Two ended sessions: outputs (1-2 or 1-3), the last status, the end."""
    return [ended(api, holder, b"a1\n", b"a2\n"), ended(api, holder, b"b1\n", b"b2\n", b"b3\n")]


def ended(api: Api, holder: Holder, *printed: bytes) -> UUID:
    session_id = api.create()
    run = holder.run(session_id)
    for piece in printed:
        run.write(piece)
    run.end()
    return session_id


def test_each_event_names_its_session_and_its_id_is_the_place_in_all(api: Api, two: list[UUID]) -> None:
    one, other = map(str, two)
    events = events_of(api, *two)

    assert [(event.event, event.whose, event.id) for event in events[:2]] == [
        ("connected", one, None),
        ("connected", other, None),
    ]
    place = {one: 0, other: 0}
    for event in events[2:]:
        place[event.whose] += 1
        assert event.id == f"{place[one]},{place[other]}"
    assert place == {one: 4, other: 5}
    for session_id, text in ((one, "a1\na2\n"), (other, "b1\nb2\nb3\n")):
        mine = [event for event in events[2:] if event.whose == session_id]
        assert [event.event for event in mine[-2:]] == ["status", "terminated"]
        assert "".join(event.data["content"] for event in mine[:-2]) == text


def test_a_reader_goes_on_behind_any_id_and_is_told_when_nothing_follows(api: Api, two: list[UUID]) -> None:
    whole = events_of(api, *two)[2:]
    for place, event in enumerate(whole[:-1]):
        assert events_of(api, *two, last_id=event.id)[2:] == whole[place + 1 :]
    assert events_of(api, *two, after="0,0")[2:] == whole
    assert events_of(api, *two, last_id=whole[3].id, after="0,0")[2:] == whole[4:]
    assert api.get(path(*two, after="4,5")).status_code == 204
    assert {event.whose for event in events_of(api, *two, after="4,0")[2:]} == {str(two[1])}


def test_what_is_wanted_of_each_is_as_in_one_sessions_stream(api: Api, two: list[UUID]) -> None:
    kinds = [event.event for event in events_of(api, *two, events="status")[2:]]
    assert sorted(kinds) == ["status", "status", "terminated", "terminated"]
    tail = events_of(api, *two, tail=1, events="output")[2:]
    assert sorted(event.data["content"] for event in tail if event.event == "output") == ["a2\n", "b3\n"]
    exact = events_of(api, two[0], encoding="base64")[1:]
    assert [event.id for event in exact] == ["1", "2", "3", "4"]
    assert exact[0].data["content_base64"] == "YTEK"


@pytest.mark.parametrize("after", ["1", "1,2,3", "x,1", "1,", ",", "-1,1", "9,1", "1,99999999999999999999", "1, 2"])
def test_a_place_that_is_none_is_refused(api: Api, two: list[UUID], after: str) -> None:
    answer = api.get("/stream", params={"sessions": ",".join(map(str, two)), "after": after})

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def test_a_session_that_is_not_to_be_seen_is_refused_and_noted(api: Api, two: list[UUID], web: Web) -> None:
    his = api.as_("bob-key").create()
    shown = api.get(f"/sessions/{his}")
    for foreign in (his, uuid4(), "no-id"):
        answer = api.get(path(two[0], foreign, two[1]))
        assert answer.status_code == 404
        assert {**answer.json(), "timestamp": ""} == {**shown.json(), "timestamp": ""}
        assert api.call("HEAD", path(two[0], foreign)).status_code == 404

    def noted() -> bool:
        with web.database.transaction() as tx:
            tries = tx.scalars(select(AuditRow).where(AuditRow.target == str(his), AuditRow.outcome != "ok")).all()
        assert {(row.actor, row.outcome) for row in tries} <= {("ada", "SESSION_NOT_FOUND")}
        return len([row for row in tries if row.action == "session.stream"]) == 2

    eventually(noted)


def test_each_session_is_told_who_follows_it(api: Api, two: list[UUID], web: Web) -> None:
    events_of(api, *two)
    with web.database.transaction() as tx:
        wanted = (AuditRow.action == "session.stream", AuditRow.target.in_(map(str, two)))
        rows = tx.scalars(select(AuditRow).where(*wanted)).all()
    assert sorted((row.target, row.outcome) for row in rows) == sorted((str(each), "ok") for each in two)


def test_sessions_are_named_once_and_are_not_too_many(api: Api, two: list[UUID]) -> None:
    for wanted in ("/stream", "/stream?sessions=", path(*two, two[0]), path(*[uuid4() for _ in range(51)])):
        answer = api.get(wanted)
        assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED"), wanted
    assert api.get(path(*[uuid4() for _ in range(50)])).status_code == 404


def test_head_says_that_it_is_a_stream(api: Api, two: list[UUID]) -> None:
    answer = api.call("HEAD", path(*two))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers
    assert api.call("HEAD", path(*two, after="4,5")).status_code == 204


def test_a_ticket_is_for_one_sessions_own_stream(api: Api, two: list[UUID]) -> None:
    ticket = api.post(f"/sessions/{two[0]}/tickets", {"scopes": ["read"]}).json()["ticket"]
    answer = api.client.get(f"/api/v1{path(two[0])}&ticket={ticket}")
    assert (answer.status_code, answer.json()["error_code"]) == (401, "API_KEY_REQUIRED")


def test_fifty_live_sessions_come_whole_with_silence_and_one_place(gevent: Api, holder: Holder) -> None:
    session_ids = [gevent.create() for _ in range(50)]
    runs = [holder.run(session_id) for session_id in session_ids]
    before = places(gevent)
    with gevent.client.stream("GET", f"/api/v1{path(*session_ids)}", headers=gevent.headers) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert any(line.startswith(":") for line in lines)  # nothing has come for a while
        assert places(gevent) == before + 1
        write(runs)
        seen: dict[str, str] = {}
        last = ""
        for event in parse(lines):
            assert event.id is not None
            last = event.id
            seen[event.whose] = seen.get(event.whose, "") + event.data.get("content", "")
    assert seen == {str(run.session_id): run.printed.decode() for run in runs}
    assert last == ",".join(str(len(run.entries) + 2) for run in runs)
    eventually(lambda: places(gevent) == before)


def write(runs: list[Run]) -> None:
    for number in range(3):
        for index, run in enumerate(runs):
            run.write(b"%d of %d\n" % (number, index))
    runs[7].write(b"x" * 100_000)
    for run in runs:
        run.end()


def places(api: Api) -> int:
    health: dict[str, Any] = api.client.get("/health").json()
    return int(health["infrastructure"]["websocket_manager"]["stats"]["total_connections"])


def test_such_a_stream_ends_with_its_key_and_takes_one_place_of_it(
    variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn], gevent: Api, holder: Holder, label: str
) -> None:
    few = gunicorns({**variables, "MAX_STREAMS_PER_KEY": "1", "MAX_STREAMS": "3998"})
    session_ids = [gevent.create(), gevent.create()]
    for session_id in session_ids:
        holder.run(session_id).write(b"x")
    key_id, key = made(gevent, label)

    def read(opened: Open) -> None:
        with gevent.client.stream("GET", f"{few.url}/api/v1{path(*session_ids)}", headers=bearer(key)) as answer:
            for event in parse(answer.iter_lines()):
                opened.begun = True
                opened.how = (event.event, event.data.get("error_code"))

    opened = Open(read)
    refused = gevent.client.get(f"{few.url}/api/v1{path(*session_ids)}", headers=bearer(key))
    assert (refused.status_code, refused.json()["error_code"]) == (429, "TOO_MANY_STREAMS")
    gevent.as_("root-key").delete(f"/keys/{key_id}")
    assert opened.end() == ("stream_error", "INVALID_API_KEY")
    eventually(lambda: bool(few.lines("stream closed")))
    closed = few.lines("stream closed")[-1]
    assert (closed["path"], closed["ended_by"], closed["transport"]) == ("/api/v1/stream", "INVALID_API_KEY", "sse")


def test_a_process_that_leaves_says_when_to_come_again(
    serve: Callable[..., tuple[Gunicorn, Api]], gevent: Api, holder: Holder
) -> None:
    gunicorn, there = serve()
    session_ids = [there.create(), there.create()]
    runs = [holder.run(session_id) for session_id in session_ids]
    runs[1].write(b"one")
    head = f"GET /api/v1{path(*session_ids)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ada-key\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gunicorn.port), timeout=15) as connection:
        connection.sendall(head.encode())
        taken = b""
        while b"id: 0,1" not in taken:
            taken += connection.recv(65536)
        gunicorn.process.terminate()
        while data := connection.recv(65536):
            taken += data
    assert b"retry: 2000\n: the server is going" in taken
    for run in runs:
        run.end()
    rest = events_of(gevent, *session_ids, last_id="0,1")
    assert [event.event for event in rest if event.event == "output"] == []
    assert [event.event for event in rest].count("terminated") == 2
