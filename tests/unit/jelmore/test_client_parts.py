"""What a client decides, without a connection: events from bytes, when to try again, from where to go on, when to give up."""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jelmore.client import (
    ApiError,
    AuthenticationFailed,
    BlockingJelmoreClient,
    ClientError,
    Conflict,
    ConnectionFailed,
    Event,
    JelmoreClient,
    Limits,
    NotFound,
    RequestRefused,
    ServiceFailed,
    StreamBroken,
    TooMany,
    UnreadableAnswer,
)
from jelmore.client import calls as requests
from jelmore.client.account import next_cursor
from jelmore.client.errors import api_error
from jelmore.client.events import LARGEST_EVENT_BYTES, Parser
from jelmore.client.following import STEADY_SECONDS, Following, Wish
from jelmore.client.retrying import Retries
from jelmore.client.waiting import Waiting
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTED = b'retry: 2000\nevent: connected\ndata: {"session_id": "s"}\n\n'
STREAM = {"content-type": "text/event-stream; charset=utf-8"}
LIMITS = Limits(retries=2, resumes=3, pause_seconds=1.0, longest_pause_seconds=8.0)


def entry(seq: int, kind: str = "output", **members: object) -> bytes:
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(members)}\n\n".encode()


def refusal(status: int, code: str | None = None, **headers: str) -> ApiError:
    return api_error(status, json.dumps({"detail": "No.", "error_code": code}).encode(), headers)


# Events.


def parsed(*chunks: bytes) -> list[Event]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 400), max_size=30))
def test_events_are_the_same_however_their_bytes_are_cut(content: bytes, cuts: list[int]) -> None:
    text = content.decode("utf-8", errors="replace")
    stream = CONNECTED + b": \n\n" + entry(1, content=text) + b":\n\n" + entry(2, "terminated", status="completed")
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]

    assert parsed(*pieces) == parsed(stream)
    assert [(event.id, event.event) for event in parsed(stream)] == [
        (None, "connected"),
        (1, "output"),
        (2, "terminated"),
    ]
    assert parsed(stream)[1].text == text


def test_what_is_left_of_an_event_is_no_event() -> None:
    assert parsed(CONNECTED + entry(1, content="a")[:-1]) == parsed(CONNECTED)


def test_lines_may_end_as_windows_has_them() -> None:
    assert parsed(entry(7, content="a").replace(b"\n", b"\r\n")) == [
        Event("output", {"content": "a"}, 7, 'id: 7\nevent: output\ndata: {"content": "a"}')
    ]


def test_bytes_are_exact_when_they_come_as_base64() -> None:
    (event,) = parsed(entry(1, content_base64="//4A"))

    assert (event.content, event.text) == (b"\xff\xfe\x00", "\ufffd\ufffd\x00")


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
def test_an_event_has_a_largest_size(piece: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        parsed(*[piece] * (LARGEST_EVENT_BYTES // 1000 + 1))


@pytest.mark.parametrize("data", [b"1", b"[]", b"{", b"\xff"])
def test_an_event_that_is_no_object_is_not_the_services(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        parsed(b"data: " + data + b"\n\n")


# Errors.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestRefused),
        (401, AuthenticationFailed),
        (404, NotFound),
        (409, Conflict),
        (422, RequestRefused),
        (429, TooMany),
        (500, ServiceFailed),
        (503, ServiceFailed),
    ],
)
def test_every_refusal_says_what_the_service_said(status: int, kind: type[ApiError]) -> None:
    error = refusal(status, "CODE", **{"x-request-id": "r-1", "retry-after": "7"})

    assert type(error) is kind
    said = (error.status, error.error_code, error.detail, error.request_id, error.retry_after_seconds)
    assert said == (status, "CODE", "No.", "r-1", 7.0)
    assert all(word in str(error) for word in ("No.", "CODE", "r-1", str(status)))


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[]", b"\xff", b'{"detail": 1, "errors": null}'])
def test_what_somebody_else_answers_is_an_error_too(body: bytes) -> None:
    error = api_error(502, body, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})

    assert (error.status, error.error_code, error.retry_after_seconds) == (502, None, None)


def test_the_key_is_never_shown() -> None:
    client = JelmoreClient("http://localhost:8000/", "secret-key")

    assert "secret" not in repr(client)
    assert (client.base_url, client.headers) == ("http://localhost:8000", {"Authorization": "Bearer secret-key"})


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://localhost", "http://", "http://a:b"])
def test_a_base_url_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        BlockingJelmoreClient(url, "key")


@pytest.mark.parametrize("key", ["a\nb", "ü", " secret", "secret\t"])
def test_a_key_that_is_no_header_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as refused:
        JelmoreClient("http://localhost", key)
    assert key.strip() not in str(refused.value)


# Requests.


@pytest.mark.parametrize("name", ["", ".", "..", "../keys", "a?b", "a#b", "a/b", "%2e%2e"])
def test_what_is_no_id_stays_within_its_path(name: str) -> None:
    path = requests.get(name).path

    assert path.count("/") == 2
    assert not path.endswith(("/", "/.", "/.."))
    assert "?" not in path
    assert "#" not in path


def test_requests_that_make_something_carry_a_key_of_their_own_unless_given_one() -> None:
    first, second = (requests.create("q", None, None, {}).headers["Idempotency-Key"] for _ in range(2))

    assert first != second
    assert requests.send_input("s", {"input": ""}, "mine").headers == {"Idempotency-Key": "mine"}


def test_the_next_page_is_found_wherever_the_service_thinks_it_is() -> None:
    link = '<http://inside:8000/api/v1/sessions?limit=2&cursor=a%2Bb>; rel="next", <http://x/?a=1>; rel="first"'

    assert next_cursor(link) == "a+b"
    assert next_cursor('<http://x/?cursor=1>; rel="prev"') is None
    assert next_cursor("") is None


# Trying again.


def tries(call: requests.Call[Any], fault: ClientError) -> int:
    """Return how many more tries a request gets that always fails so."""
    retries = Retries(call, LIMITS)
    with suppress(type(fault)):
        while retries.failures < 10:
            assert 0 <= retries.pause(fault) <= LIMITS.longest_pause_seconds + 60
    return retries.failures - 1


GET = requests.get("s")
SIGNAL = requests.ask("s", "signal", {"signal": "INT"}, repeatable=False)


@pytest.mark.parametrize(
    ("call", "fault", "again"),
    [
        (GET, ConnectionFailed("cut"), 2),
        (GET, refusal(503, "DATABASE_UNAVAILABLE"), 2),
        (GET, refusal(502), 2),
        (GET, refusal(429, "RATE_LIMITED", **{"retry-after": "3"}), 2),
        (GET, refusal(429, "RATE_LIMITED", **{"retry-after": "3600"}), 0),
        (GET, refusal(429, "TOO_MANY_SESSIONS"), 0),
        (GET, refusal(500), 0),
        (GET, refusal(404), 0),
        (GET, UnreadableAnswer("html"), 0),
        (requests.create("q", None, None, {}), ConnectionFailed("cut"), 2),
        (requests.create("q", None, None, {}), refusal(409, "IDEMPOTENCY_IN_PROGRESS"), 2),
        (requests.terminate("s", None, 10), ConnectionFailed("cut"), 2),
        # A second signal is not the first.
        (SIGNAL, ConnectionFailed("cut"), 0),
        (SIGNAL, ConnectionFailed("refused", sent=False), 2),
        (SIGNAL, refusal(503), 0),
        (SIGNAL, refusal(429, "RATE_LIMITED"), 2),
    ],
)
def test_a_request_is_sent_again_only_where_it_helps_and_is_safe(
    call: requests.Call[Any], fault: ClientError, again: int
) -> None:
    assert tries(call, fault) == again


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_pauses_grow_up_to_a_limit_and_are_spread(failures: int, luck: float) -> None:
    pause = Limits().pause(failures, chance=lambda low, high: low + luck * (high - low))

    assert 0 <= pause <= min(30.0, 0.5 * 2.0 ** min(failures - 1, 60))


# Following.


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def following(clock: FakeClock) -> Following:
    return Following("s", Wish(), LIMITS, clock.now)


def opening(following: Following) -> tuple[dict[str, str | None], str | None]:
    call = following.call()
    return dict(call.params), call.headers.get("Last-Event-ID")


def connect(following: Following, *chunks: bytes) -> list[str]:
    following.opened(200, STREAM)
    return [event.event for chunk in (CONNECTED, *chunks) for event in following.take(chunk)]


def test_a_stream_goes_on_behind_the_last_entry_it_brought(clock: FakeClock) -> None:
    following = Following("s", Wish(tail=5, events=("output", "status"), encoding="base64"), LIMITS, clock.now)
    options = {"events": "output,status", "encoding": "base64"}
    assert opening(following) == ({**options, "tail": "5"}, None)

    assert connect(following) == ["connected"]
    following.pause(None)
    assert opening(following) == ({**options, "tail": "5"}, None)

    assert connect(following, entry(11, content="a"), entry(12, content="b")[:-2]) == ["output"]
    following.pause(ConnectionFailed("cut"))
    assert opening(following) == (options, "11")

    assert connect(following, entry(12, "terminated")) == ["terminated"]
    assert following.over


def test_nothing_behind_the_end_is_the_end(following: Following) -> None:
    following.opened(204, {})
    assert following.over


def test_nothing_is_read_behind_the_last_event(following: Following) -> None:
    assert connect(following, entry(1, "terminated") + entry(2, content="more")) == ["connected", "terminated"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_ends_a_stream(following: Following, status: int) -> None:
    connect(following, entry(1))
    with pytest.raises(ApiError):
        following.pause(refusal(status))


def test_what_is_no_stream_ends_it(following: Following) -> None:
    with pytest.raises(UnreadableAnswer) as not_it:
        following.opened(200, {"content-type": "text/html"})
    with pytest.raises(UnreadableAnswer):
        following.pause(not_it.value)


@pytest.mark.parametrize("fault", [None, ConnectionFailed("cut"), refusal(503), refusal(429)])
def test_a_stream_that_gets_no_further_is_given_up(following: Following, fault: ClientError | None) -> None:
    connect(following, entry(5))
    for _ in range(LIMITS.resumes):
        following.pause(fault)
        connect(following)
    with pytest.raises(StreamBroken) as broken:
        following.pause(fault)
    assert broken.value.last_id == 5


def test_a_service_that_was_never_reached_is_given_up_sooner(following: Following) -> None:
    for _ in range(LIMITS.retries):
        following.pause(ConnectionFailed("refused"))
    with pytest.raises(ConnectionFailed):
        following.pause(ConnectionFailed("refused"))


@pytest.mark.parametrize("how", ["entries", "time"])
def test_a_stream_that_gets_further_may_break_as_often_as_it_likes(
    following: Following, clock: FakeClock, how: str
) -> None:
    for seq in range(1, 5 * LIMITS.resumes):
        connect(following, *([entry(seq)] if how == "entries" else []))
        clock.advance(STEADY_SECONDS if how == "time" else 0)
        assert following.pause(None) <= LIMITS.pause_seconds


def test_a_failure_that_is_told_inside_a_stream_is_one_to_try_again_after(following: Following) -> None:
    failure = b'event: stream_error\ndata: {"error_code": "DATABASE_UNAVAILABLE", "detail": "away"}\n\n'
    with pytest.raises(ServiceFailed) as failed:
        connect(following, entry(3), failure)
    following.pause(failed.value)

    assert failed.value.error_code == "DATABASE_UNAVAILABLE"
    assert opening(following)[1] == "3"


def test_the_service_says_how_long_to_stay_away(following: Following) -> None:
    assert following.pause(refusal(429, "RATE_LIMITED", **{"retry-after": "12"})) >= 12


# Waiting.


def test_a_long_wait_is_many_requests_each_where_the_one_before_ended(clock: FakeClock) -> None:
    waiting = Waiting({"text": "ready"}, 10, 40, clock.now)
    asked = []
    while not waiting.over:
        asked.append((waiting.offset, waiting.seconds()))
        clock.advance(waiting.seconds())
        waiting.take({"matched": False, "next_offset": waiting.offset + 100, "status": "active"})

    assert asked == [(10, 25), (110, 15)]
    assert not waiting.outcome()["matched"]


def test_a_wait_is_over_when_it_has_come_true(clock: FakeClock) -> None:
    waiting = Waiting({"status": "idle"}, 0, 40, clock.now)
    waiting.take({"matched": True, "next_offset": 0, "status": "idle"})

    assert (waiting.over, waiting.until) == (True, {"status": ["idle"]})


def test_a_session_that_ends_is_looked_at_once_more(clock: FakeClock) -> None:
    waiting, unmatched = Waiting({"text": "ready"}, 0, 40, clock.now), {"matched": False, "next_offset": 7}
    waiting.take({**unmatched, "status": "completed"})
    assert not waiting.over
    waiting.take({**unmatched, "status": "completed"})
    assert waiting.over


def test_a_wait_for_quiet_is_never_shorter_than_the_quiet(clock: FakeClock) -> None:
    assert Waiting({"idle_ms": 5000}, 0, 0.1, clock.now).seconds() == 5
    assert Waiting({"text": "x"}, 0, 0.1, clock.now).seconds() == 1


# Twins.


def methods(kind: type) -> dict[str, inspect.Signature]:
    members: list[tuple[str, Callable[..., Any]]] = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(member) for name, member in members if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    awaited, blocking = methods(JelmoreClient), methods(BlockingJelmoreClient)
    awaited["close"] = awaited.pop("aclose")

    assert awaited.keys() == blocking.keys()
    for name, signature in awaited.items():
        assert signature.parameters == blocking[name].parameters, name
