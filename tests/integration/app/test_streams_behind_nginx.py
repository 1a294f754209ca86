"""Streams through nginx: live, though it buffers what it can; alive, though it hangs up on the silent; ended, not cut."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.crowd import Crowd
from tests.integration.app.serving import Api, Gunicorn
from tests.integration.app.talking import talking
from tests.nginx import DEFAULT, MODERN, TIMEOUT_SECONDS, in_front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.app.holder import Holder


@pytest.fixture(params=[DEFAULT, MODERN], ids=["HTTP/1.0", "HTTP/1.1"])
def proxied(
    request: pytest.FixtureRequest,
    variables: dict[str, str],
    gunicorns: Callable[[dict[str, str]], Gunicorn],
    tmp_path: Path,
) -> Iterator[Api]:
    served = gunicorns({**variables, "HEARTBEAT_SECONDS": "0.5", "WEBSOCKET_PING_SECONDS": "0.5"})
    with (
        in_front(tmp_path / "nginx", [served.port], request.param) as port,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield Api(client)


def port_of(api: Api) -> int:
    return int(api.client.base_url.port or 80)


def test_what_is_printed_comes_at_once_and_silence_is_survived(proxied: Api, holder: Holder) -> None:
    session_id = proxied.create()
    run = holder.run(session_id)
    with Crowd(session_id, 5, version="1.0") as crowd:
        crowd.open(port_of(proxied))
        for number in range(1, 6):
            run.write(b"line %d\n" % number)
            crowd.read(crowd.reached(number))  # before the next one is printed: nothing is held back
        silent_until = time.monotonic() + 2.5 * TIMEOUT_SECONDS
        crowd.read(lambda: time.monotonic() > silent_until)
        assert all(one.is_open for one in crowd.all)
        run.write(b"after the silence")
        crowd.read(crowd.reached(6))
        run.end()
        crowd.read(crowd.are_gone)
        assert len(crowd.logs()) == 1
        assert [one.last_id for one in crowd.all] == [8] * 5
    answer = proxied.get(f"/sessions/{session_id}/stream", headers={"Last-Event-ID": "8"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_flood_comes_through_whole_also_to_slow_readers(proxied: Api, holder: Holder) -> None:
    session_id = proxied.create()
    run = holder.run(session_id)
    with Crowd(session_id, 6, version="1.0") as crowd:
        slow = crowd.all[:3]
        crowd.open(port_of(proxied), slow, buffer_bytes=4096)
        crowd.open(port_of(proxied))
        crowd.stall(slow)
        for number in range(1, 65):
            run.write(b"%08d" % number * 8 * 1024)
        crowd.read(crowd.reached(64, crowd.all[3:]))
        crowd.go_on(slow)
        run.end()
        crowd.read(crowd.are_gone)
        crowd.open(port_of(proxied), [one for one in slow if one.last_id < 66])  # whom nginx has hung up on
        crowd.read(crowd.are_gone)
        assert len(crowd.logs()) == 1
        assert [one.last_id for one in crowd.all] == [66] * 6


def test_a_web_process_killed_behind_it_is_replaced_by_the_other(
    variables: dict[str, str], holder: Holder, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    both = [Gunicorn(variables, tmp_path_factory.mktemp("web") / "log") for _ in range(2)]
    try:
        for served in both:
            served.wait()
        with (
            in_front(tmp_path / "nginx", [served.port for served in both], MODERN) as port,
            httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            session_id = Api(client).create()
            run = holder.run(session_id)
            with Crowd(session_id, 40, version="1.0") as crowd:
                crowd.open(port)
                run.write(b"one")
                crowd.read(crowd.reached(1))
                os.killpg(both[0].process.pid, signal.SIGKILL)
                crowd.read(lambda: sum(one.is_open for one in crowd.all) <= 20)
                run.write(b"two")
                crowd.open(port)
                run.end()
                crowd.read(crowd.are_gone)
                assert len(crowd.logs()) == 1
                assert {one.last_id for one in crowd.all} == {4}
    finally:
        for served in both:
            served.stop()


@pytest.mark.parametrize("proxied", [MODERN], ids=["HTTP/1.1"], indirect=True)
def test_a_websocket_lives_through_silence_and_ends_in_order(proxied: Api, holder: Holder) -> None:
    session_id = proxied.create()
    run = holder.run(session_id)
    with talking(proxied, session_id) as talk:
        assert talk.hear()["event"] == "session_info"
        run.write(b"hello")
        assert talk.hear()["content"] == "hello"
        silent_until = time.monotonic() + 2.5 * TIMEOUT_SECONDS
        while time.monotonic() < silent_until:
            talk.frame()  # pings, which are answered
        assert talk.ask(type="input", content="x")["event"] == "input_received"
        run.end()
        assert talk.rest()[-1]["event"] == "terminated"
        assert talk.code == 1000
    with talking(proxied, session_id) as talk:
        events = [message["event"] for message in talk.rest()]
        assert (events[0], events[-1], talk.code) == ("session_info", "terminated", 1000)
