"""The Python clients while connections are cut and web processes are killed: exact bytes, nothing twice, an end to every wait."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from jelmore.client import BlockingJelmoreClient, ConnectionFailed, Event, JelmoreClient, Limits, StreamBroken
from tests.checks import eventually
from tests.programs.shell import lines, steady
from tests.proxy import proxied
from tests.service import ADA, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proxy import Proxy
    from tests.service import Service

QUICK: Final = Limits(pause_seconds=0.05, longest_pause_seconds=0.5, silence_seconds=3, answer_seconds=5)
PATIENT: Final = Limits(pause_seconds=0.1, longest_pause_seconds=1.0, resumes=60, retries=20)
COUNT: Final = 150
FLOOD: Final = "seq -f %015.0f 1 120000; sleep 0.5; seq -f %015.0f 1 120000"
FLOOD_SHA256: Final = hashlib.sha256(b"".join(b"%015d\n" % number for number in range(1, 120_001)) * 2).hexdigest()


@pytest.fixture
def proxy(service: Service) -> Iterator[Proxy]:
    with proxied(f"http://127.0.0.1:{service.port}") as between:
        yield between


@contextmanager
def cut_at_random(proxy: Proxy, shortest: float = 0.02, longest: float = 0.25) -> Iterator[list[float]]:
    """Reset every connection after a random while, again and again. In seconds."""
    chance, over, cuts = random.Random(7), threading.Event(), []

    def cut() -> None:
        while not over.wait(pause := chance.uniform(shortest, longest)):
            proxy.reset()
            cuts.append(pause)

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    try:
        yield cuts
    finally:
        over.set()
        thread.join()


def blocking_events(url: str, session_id: str) -> list[Event]:
    return list(BlockingJelmoreClient(url, ADA, limits=QUICK).stream(session_id, encoding="base64"))


def awaited_events(url: str, session_id: str) -> list[Event]:
    async def follow() -> list[Event]:
        async with JelmoreClient(url, ADA, limits=QUICK) as client:
            return [event async for event in client.stream(session_id, encoding="base64")]

    return asyncio.run(follow())


def check(events: list[Event]) -> bytes:
    """Check that a stream came once, in order and whole; return what was printed."""
    printed = b"".join(event.content for event in events)
    end = events[-1].data
    assert [event.id for event in events] == [None, *range(1, len(events))]
    assert (end["output_bytes"], end["output_sha256"]) == (len(printed), hashlib.sha256(printed).hexdigest())
    return printed


@pytest.mark.parametrize("follow", [blocking_events, awaited_events])
def test_a_stream_that_is_cut_at_random_comes_once_and_whole(
    service: Service, proxy: Proxy, follow: Callable[[str, str], list[Event]]
) -> None:
    session_id = service.ada.create(steady(COUNT, 0.02))
    with cut_at_random(proxy) as cuts:
        events = follow(proxy.url, session_id)

    assert check(events) == lines(COUNT)
    assert len(cuts) > 5


def test_a_flood_that_is_cut_at_random_comes_once_and_whole(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create(FLOOD)
    with cut_at_random(proxy):
        printed = check(blocking_events(proxy.url, session_id))

    assert hashlib.sha256(printed).hexdigest() == FLOOD_SHA256


def test_pages_of_output_survive_cut_connections(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("seq -f %015.0f 1 240000")
    service.ada.events(session_id, "?tail=0")
    client = BlockingJelmoreClient(proxy.url, ADA, limits=PATIENT)
    with cut_at_random(proxy, 0.3, 1.5):
        pages = [client.output_bytes(session_id) for _ in range(3)]

    assert pages == [b"".join(b"%015d\n" % number for number in range(1, 240_001))] * 3


def test_a_stream_that_falls_silent_is_opened_again(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create(steady(60, 0.05))
    with ThreadPoolExecutor(1) as aside:
        events = aside.submit(blocking_events, proxy.url, session_id)
        eventually(lambda: service.ada.get(session_id)["output_bytes"] > 100)
        proxy.black_hole()
        eventually(lambda: service.ada.get(session_id)["terminated_at"], 15)
        threading.Timer(QUICK.silence_seconds + 1, proxy.heal).start()

        assert check(events.result(60)) == lines(60)


def test_a_stream_that_is_never_resumed_is_given_up(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("echo here; sleep 1000")
    limits = Limits(resumes=3, pause_seconds=0.01)
    seen = []

    def follow() -> None:
        for event in BlockingJelmoreClient(proxy.url, ADA, limits=limits).stream(session_id):
            seen.append(event)
            if event.event == "output":
                proxy.refuse()

    with pytest.raises(StreamBroken) as broken:
        follow()
    assert broken.value.last_id == seen[-1].id
    proxy.heal()
    with closing(BlockingJelmoreClient(proxy.url, ADA).stream(session_id, after=broken.value.last_id)) as rest:
        assert next(rest).event == "connected"
        service.ada.delete(session_id)
        assert next(rest).id == (broken.value.last_id or 0) + 1


def test_a_service_that_accepts_and_says_nothing_is_given_up(service: Service, proxy: Proxy) -> None:
    proxy.black_hole()
    limits = Limits(answer_seconds=0.3, connect_seconds=0.3, silence_seconds=0.3, retries=1, pause_seconds=0.01)
    client = BlockingJelmoreClient(proxy.url, ADA, limits=limits)
    with pytest.raises(ConnectionFailed):
        client.list_sessions()
    with pytest.raises(ConnectionFailed):
        list(client.stream("any"))
    with pytest.raises(ConnectionFailed):
        asyncio.run(JelmoreClient(proxy.url, ADA, limits=limits).list_sessions())
    proxy.heal()


def test_reads_and_ends_survive_lost_replies(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("sleep 1000")
    client = BlockingJelmoreClient(proxy.url, ADA, limits=QUICK)
    proxy.lose_reply_to(b"GET /api")
    assert client.get_session(session_id)["session_id"] == session_id
    proxy.lose_reply_to(b"DELETE /api")
    assert client.terminate(session_id)["message"] == "Session terminated successfully"

    assert proxy.replies_lost == 2


def test_a_session_whose_reply_is_lost_is_created_once(service: Service, proxy: Proxy) -> None:
    client = BlockingJelmoreClient(proxy.url, ADA, limits=QUICK)
    proxy.lose_reply_to(b"POST /api")
    session_id = client.create_session("true", "creates once")["session_id"]

    assert proxy.replies_lost == 1
    assert [session["session_id"] for session in client.list_sessions(user_id="creates once")] == [session_id]


def test_input_over_cut_connections_arrives_once_and_in_order(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("cat")
    client = BlockingJelmoreClient(proxy.url, ADA, limits=PATIENT)
    with cut_at_random(proxy, 0.05, 0.3) as cuts:
        for number in range(1, 101):
            client.send_input(session_id, f"line {number}")
    client.eof(session_id)

    assert b"".join(client.stream_bytes(session_id)) == lines(100)
    assert len(cuts) > 5


def test_a_signal_whose_reply_is_lost_is_not_sent_twice(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("trap 'echo heard' USR1; echo ready; while :; do sleep 0.1; done")
    client = BlockingJelmoreClient(proxy.url, ADA, limits=QUICK)
    client.wait(session_id, text="ready")
    proxy.lose_reply_to(b"/signal")
    with pytest.raises(ConnectionFailed) as unknown:
        client.signal(session_id, "USR1")
    client.wait(session_id, text="heard")

    assert unknown.value.sent
    assert [row["kind"] for row in client.inputs(session_id)] == ["signal"]
    client.terminate(session_id)


# The web process.


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    """An installation whose web process is killed."""
    with installed(tmp_path_factory.mktemp("killed"), new_database(), WORKER_SLOTS="8") as started:
        started.start("one")
        yield started


def test_a_killed_web_process_costs_a_reader_nothing(alone: Service) -> None:
    session_id = alone.ada.create(steady(200, 0.03))
    url = f"http://127.0.0.1:{alone.port}"
    readers: list[Any] = []
    with ThreadPoolExecutor(2) as aside:
        readers = [aside.submit(follow, url, session_id) for follow in (killed_blocking, killed_awaited)]
        for lines_seen in (10, 60):
            eventually(lambda seen=lines_seen: alone.ada.get(session_id)["output_bytes"] > 8 * seen, 20)  # type: ignore[misc]
            alone.web.kill()
            alone.web.start()
            alone.wait_ready()
        for reader in readers:
            assert check(reader.result(60)) == lines(200)


def killed_blocking(url: str, session_id: str) -> list[Event]:
    return list(BlockingJelmoreClient(url, ADA, limits=PATIENT).stream(session_id, encoding="base64"))


def killed_awaited(url: str, session_id: str) -> list[Event]:
    async def follow() -> list[Event]:
        client = JelmoreClient(url, ADA, limits=PATIENT)
        return [event async for event in client.stream(session_id, encoding="base64")]

    return asyncio.run(follow())


def test_a_web_process_that_leaves_sends_its_readers_on(alone: Service) -> None:
    session_id = alone.ada.create(steady(100, 0.03))
    with ThreadPoolExecutor(1) as aside:
        reader = aside.submit(killed_blocking, f"http://127.0.0.1:{alone.port}", session_id)
        eventually(lambda: alone.ada.get(session_id)["output_bytes"] > 80)
        alone.web.stop()
        alone.web.start()
        alone.wait_ready()

        assert check(reader.result(60)) == lines(100)


def test_waiting_goes_on_over_cut_connections(service: Service, proxy: Proxy) -> None:
    session_id = service.ada.create("echo ready; sleep 4; echo steady; sleep 1000")
    client = BlockingJelmoreClient(proxy.url, ADA, limits=PATIENT)
    with cut_at_random(proxy, 0.8, 1.6):
        offset = client.wait(session_id, text="ready\n")["next_offset"]
        assert client.wait(session_id, text="steady\n", from_offset=offset, timeout_seconds=30)["matched"]
    client.terminate(session_id)
