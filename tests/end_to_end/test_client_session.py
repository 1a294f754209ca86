"""Both Python clients against a running installation: the whole life of a session, as a program would drive it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from jelmore.client import (
    AuthenticationFailed,
    BlockingJelmoreClient,
    Conflict,
    ConnectionFailed,
    JelmoreClient,
    Limits,
    NotFound,
    PermissionRefused,
    RequestRefused,
)
from jelmore.embedded.server import free_port
from tests.programs.shell import ANSWERS, lines, steady
from tests.service import ADA, ADA_READS, BOB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.service import Service

NO_TEXT = r"printf 'a\377\000\303'; sleep 0.2; printf '\251\200'"
NO_TEXT_BYTES = b"a\xff\x00\xc3\xa9\x80"


def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def client(service: Service) -> Iterator[BlockingJelmoreClient]:
    with BlockingJelmoreClient(url(service), ADA) as kept:
        yield kept


async def a_session(client: JelmoreClient) -> list[Any]:
    """Drive a session from its start to its end; return what was seen."""
    session = await client.create_session(ANSWERS, "a-user", metadata={"from": "the client"})
    session_id = session["session_id"]
    ready = await client.wait(session_id, text="ready\n")
    receipt = await client.send_input(session_id, "one")
    again = await client.wait(session_id, text="got one\n", from_offset=ready["next_offset"])
    await client.send_input(session_id, "two\n", raw=True)
    ended = await client.eof(session_id)
    events = [event async for event in client.stream(session_id)]
    shown = await client.get_session(session_id)
    return [
        (shown["user_id"], shown["metadata"], shown["status"], shown["exit_code"]),
        (ready["matched"], ready["text"], again["matched"]),
        (receipt["input_length"], receipt["input_seq"], ended["state"]),
        [(row["kind"], row["state"]) for row in await client.inputs(session_id)],
        (events[0].event, events[-1].event, events[-1].data["status"]),
        "".join(event.text for event in events),
        await client.output_text(session_id),
        await client.output_bytes(session_id, offset=6),
        (await client.output(session_id, offset=6, limit=3))["output"],
    ]


SEEN = [
    ("a-user", {"from": "the client"}, "completed", 0),
    (True, "ready\n", True),
    (3, 1, "written"),
    [("input", "written"), ("input", "written"), ("eof", "written")],
    ("connected", "terminated", "completed"),
    "ready\ngot one\ngot two\n",
    "ready\ngot one\ngot two\n",
    b"got one\ngot two\n",
    "got",
]


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
@pytest.mark.parametrize("kept", [True, False])
def test_a_session_is_driven_from_its_start_to_its_end(service: Service, run: Any, kept: bool) -> None:
    async def main() -> list[Any]:
        client = JelmoreClient(url(service), ADA)
        if not kept:
            return await a_session(client)
        async with client:
            return await a_session(client)

    assert run(main) == SEEN if run is trio.run else run(main()) == SEEN


def test_the_blocking_client_drives_one_as_well(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session(ANSWERS)["session_id"]
    ready = client.wait(session_id, regex="read.")
    client.send_input(session_id, "one")
    assert client.wait(session_id, text="got one", from_offset=ready["next_offset"])["matched"]
    assert client.wait(session_id, status="waiting_input")["matched"]
    assert not client.wait(session_id, exit=True, timeout_seconds=1)["matched"]
    assert session_id in [session["session_id"] for session in client.list_sessions(status="waiting_input")]
    assert client.extend(session_id, 5)["expires_at"]
    assert client.interrupt(session_id)["state"] == "written"
    assert list(client.stream_text(session_id)) != []

    assert client.get_session(session_id)["exit_signal"] == "INT"
    assert client.wait(session_id, exit=True)["matched"]
    assert client.output_text(session_id) == "ready\ngot one\n"


def test_a_terminal_has_a_size_and_a_foreground(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session("stty -echo; cat", terminal={"rows": 20, "cols": 70})["session_id"]
    client.wait(session_id, status="waiting_input")
    client.resize(session_id, 30, 90)
    assert client.get_session(session_id)["terminal"] == {"rows": 30, "cols": 90}
    client.signal(session_id, "TERM")

    assert client.wait(session_id, exit=True)["matched"]
    assert client.get_session(session_id)["exit_signal"] == "TERM"


def test_terminating_is_told_and_may_be_repeated(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session("sleep 1000")["session_id"]
    client.wait(session_id, status=["active", "idle"])
    first, second = client.terminate(session_id, "enough"), client.terminate(session_id)

    assert first == {"message": "Session terminated successfully", "session_id": session_id, "reason": "enough"}
    assert second == first


def test_output_that_is_no_text_comes_exactly(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session(NO_TEXT)["session_id"]

    assert b"".join(client.stream_bytes(session_id)) == NO_TEXT_BYTES
    assert client.output_bytes(session_id) == NO_TEXT_BYTES
    assert client.output_text(session_id) == "a\ufffd\x00é\ufffd"


def test_megabytes_are_read_a_page_at_a_time(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session("seq -f %015.0f 1 200000")["session_id"]
    streamed = b"".join(client.stream_bytes(session_id))

    assert streamed == b"".join(b"%015d\n" % number for number in range(1, 200_001))
    assert client.output_bytes(session_id) == streamed
    assert client.output_bytes(session_id, offset=len(streamed)) == b""
    end = list(client.stream(session_id, tail=0))[-1]
    assert end.data["output_sha256"] == hashlib.sha256(streamed).hexdigest()


def test_a_stream_begins_where_it_is_wanted(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session(steady(10, 0.02))["session_id"]
    entries = list(client.stream(session_id))[1:]

    assert [event.id for event in client.stream(session_id, after=2)][1:] == [event.id for event in entries[2:]]
    assert "".join(event.text for event in client.stream(session_id, tail=2)) == "line 9\nline 10\n"
    assert {event.event for event in client.stream(session_id, events=["status"])} == {
        "connected",
        "status",
        "terminated",
    }
    assert list(client.stream(session_id, after=entries[-1].id)) == []


def test_who_leaves_a_stream_early_leaves_nothing_open(service: Service) -> None:
    client = BlockingJelmoreClient(url(service), ADA)
    session_id = client.create_session("echo here; sleep 1000")["session_id"]
    before = open_sockets()

    async def leave() -> str:
        async with aclosing(JelmoreClient(url(service), ADA).stream_text(session_id)) as text:
            return await anext(text)

    with closing(client.stream_text(session_id)) as text:
        assert next(text) == "here\n"
        assert open_sockets() == before + 1
    assert asyncio.run(leave()) == "here\n"
    client.terminate(session_id)
    assert open_sockets() <= before  # one that was kept for the next request may have been closed meanwhile


def open_sockets() -> int:
    """How many sockets this process has."""
    return sum(
        str(path.readlink()).startswith("socket:") for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    )


def test_the_seeds_stream_is_text_of_events(service: Service) -> None:
    async def main() -> list[str]:
        client = JelmoreClient(url(service), ADA)
        session = await client.create_session("echo one; sleep 0.3; echo two")
        return [event async for event in client.stream_output(session["session_id"])]

    events = asyncio.run(main())
    assert len([event for event in events if "event: output" in event and '"content":"' in event]) == 2
    assert events[0].startswith("event: connected\ndata: {")
    assert "event: terminated" in events[-1]


def test_sessions_are_listed_by_what_is_wanted(client: BlockingJelmoreClient) -> None:
    made = [client.create_session("true", "lister")["session_id"] for _ in range(3)]

    assert [session["session_id"] for session in client.list_sessions(user_id="lister")] == made[::-1]
    assert [session["session_id"] for session in client.sessions(user_id="lister", limit=2)][:2] == made[:0:-1]


def test_the_service_is_asked_how_it_is(service: Service) -> None:
    health = BlockingJelmoreClient(url(service), "no-key").health()

    assert health["service"] == "jelmore-integrated-api"


# What is refused.


def test_refusals_are_exceptions_that_say_all(service: Service, client: BlockingJelmoreClient) -> None:
    with pytest.raises(NotFound) as unknown:
        client.get_session("01890000-0000-7000-8000-000000000000")
    with pytest.raises(RequestRefused) as wrong:
        client.create_session("")
    session_id = client.create_session("true")["session_id"]
    list(client.stream(session_id))
    with pytest.raises(Conflict) as late:
        client.send_input(session_id, "too late")

    assert (unknown.value.status, unknown.value.error_code) == (404, "SESSION_NOT_FOUND")
    assert (wrong.value.status, wrong.value.error_code) == (422, "VALIDATION_FAILED")
    assert wrong.value.errors[0]["loc"] == ["query"]
    assert (late.value.status, late.value.error_code) == (409, "SESSION_ENDED")
    assert all(refused.value.request_id for refused in (unknown, wrong, late))
    assert str(unknown.value.request_id) in service.web.said()


def test_a_stream_that_is_refused_says_why(service: Service, client: BlockingJelmoreClient) -> None:
    session_id = client.create_session("sleep 1000")["session_id"]

    for key, kind in (("wrong", AuthenticationFailed), (BOB, NotFound)):
        with pytest.raises(kind):
            list(BlockingJelmoreClient(url(service), key).stream(session_id))
    with pytest.raises(RequestRefused):
        list(client.stream(session_id, after=10**6))
    with pytest.raises(PermissionRefused):
        BlockingJelmoreClient(url(service), ADA_READS).terminate(session_id)
    client.terminate(session_id)


def test_a_service_that_is_not_there_is_given_up() -> None:
    limits = Limits(retries=2, pause_seconds=0.01)
    with pytest.raises(ConnectionFailed) as away:
        BlockingJelmoreClient(f"http://127.0.0.1:{free_port()}", ADA, limits=limits).list_sessions()
    assert (away.value.sent, len(str(away.value.request_id))) == (False, 32)

    client = JelmoreClient(f"http://127.0.0.1:{free_port()}", ADA, limits=limits)
    with pytest.raises(ConnectionFailed):
        asyncio.run(client.get_session("any"))


def test_numbered_lines_are_numbered_lines(client: BlockingJelmoreClient) -> None:
    session_id = client.create_session(steady(5, 0.01))["session_id"]

    assert b"".join(client.stream_bytes(session_id)) == lines(5)
