"""WebSockets as sockets: slow ones, silent ones, many of them, and those of a process that leaves."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.checks import eventually
from tests.integration.app.talking import CLOSE, PONG, TEXT, Raw, masked, talking

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api, Gunicorn

ENTRIES = 300


def places(api: Api) -> int:
    stats = api.client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]
    return int(stats["total_connections"])


def test_a_slow_reader_gets_every_frame_whole_with_pongs_and_answers_between_them(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    run = holder.run(session_id)
    raw = Raw(gevent, session_id)
    for number in range(ENTRIES):
        run.write(b"%08d" % number * 2000)
        if number % 15 == 0:
            raw.send(masked(0x9, b"%d" % number))
            raw.send(masked(TEXT, b'{"type": "ping", "id": "%d"}' % number))
    run.end()

    heard: list[dict[str, object]] = []
    pongs: list[bytes] = []
    while (frame := raw.frame()) is not None and frame[0] != CLOSE:
        kind, payload = frame
        if kind == PONG:
            pongs.append(payload)
        elif kind == TEXT:
            heard.append(json.loads(payload))
    assert frame is not None
    assert int.from_bytes(frame[1][:2]) == 1000
    entries = [message for message in heard if "seq" in message]
    assert [message["seq"] for message in entries] == list(range(1, ENTRIES + 3))
    contents = [message["content"] for message in entries if message["event"] == "output"]
    assert contents == [f"{number:08d}" * 2000 for number in range(ENTRIES)]
    answered = [message["id"] for message in heard if message["event"] == "pong"]
    assert answered == [str(number) for number in range(0, ENTRIES, 15)]
    assert set(pongs) <= {b"%d" % number for number in range(0, ENTRIES, 15)}
    raw.shut()


def test_many_sockets_take_none_of_the_servers_connections_and_all_see_the_same(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve(WORKER_CONNECTIONS="10")
    session_id = api.create()
    run = holder.run(session_id)
    with ExitStack() as held:
        talks = [held.enter_context(talking(api, session_id)) for _ in range(60)]
        assert places(api) == 60
        assert api.client.get("/health/live").status_code == 200
        for number in range(20):
            run.write(b"%d" % number)
        run.end()
        logs = {json.dumps(talk.rest()[1:]) for talk in talks}
        assert len(logs) == 1
        assert {talk.code for talk in talks} == {1000}
    eventually(lambda: places(api) == 0)
    ended = served.lines("stream closed")
    assert [(line["transport"], line["ended_by"]) for line in ended] == [("websocket", "1000")] * 60
    assert all(line["bytes"] > 1000 and line["seconds"] > 0 for line in ended)


def test_who_is_silent_is_closed_on(serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder) -> None:
    served, api = serve(WEBSOCKET_PING_SECONDS="0.3")
    session_id = api.create()
    holder.run(session_id)
    raw = Raw(api, session_id)
    assert raw.close_code() == 4408
    raw.shut()
    eventually(lambda: [line["ended_by"] for line in served.lines("stream closed")] == ["4408"])


def test_who_takes_nothing_is_closed_on_and_costs_nothing_more(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve(FOLLOWER_TIMEOUT_SECONDS="0.5")
    session_id = api.create()
    run = holder.run(session_id)
    raw = Raw(api, session_id)
    for number in range(64):
        run.write(b"%08d" % number * 8192)
    eventually(lambda: places(api) == 0)
    (closed,) = served.lines("stream closed")
    assert closed["ended_by"] == "stalled"
    raw.shut()


def test_a_process_that_leaves_closes_its_sockets_with_1012(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    (first, api), (_, other) = serve(), serve()
    session_id = api.create()
    run = holder.run(session_id)
    with talking(api, session_id) as one, talking(api, session_id) as two:
        run.write(b"before")
        for talk in (one, two):
            talk.until("output")
        first.process.send_signal(signal.SIGTERM)
        for talk in (one, two):
            assert talk.rest() == []
            assert talk.code == 1012
    assert first.process.wait(10) == 0
    with talking(other, session_id, "?after=1") as talk:
        run.write(b"after")
        run.end()
        assert [message.get("seq") for message in talk.rest()] == [None, 2, 3, 4]


def test_after_the_end_a_socket_says_what_it_was_and_closes_in_order(gevent: Api, holder: Holder) -> None:
    session_id = gevent.create()
    run = holder.run(session_id)
    run.write(b"all of it")
    run.end()
    with talking(gevent, session_id) as talk:
        assert [message["event"] for message in talk.rest()] == ["session_info", "output", "status", "terminated"]
        assert talk.code == 1000
    with talking(gevent, session_id, "?after=3") as talk:  # the end has been read
        assert [message["event"] for message in talk.rest()] == ["session_info", "terminated"]
        assert talk.code == 1000
