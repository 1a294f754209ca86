"""Requests that want to break something, against the web process as it is run: told in the one shape what is wrong, and no more.

Behind each of them, on the same connection, comes a decent request: it has its own answer, or the connection has ended.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.checks import eventually
from tests.integration.app.hostile import (
    NEXT,
    PATIENCE_SECONDS,
    RESET,
    errors_in,
    exchange,
    memory_mib,
    read_answers,
    worker_of,
)
from tests.integration.app.serving import Gunicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = b"Authorization: Bearer ada-key\r\n"
UNKNOWN: Final = b"00000000-0000-7000-8000-000000000000"
MIB: Final = 1024 * 1024
POOL_SIZE: Final = 10
GROWTH_MIB: Final = 48.0
"""What a process may have grown by when everything here was sent to it many times: caches and buffers, no leak."""


def request(method: bytes, path: bytes, *headers: bytes, key: bytes = KEY, version: bytes = b"1.1") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return method + b" " + path + b" HTTP/" + version + b"\r\nHost: x\r\n" + key + lines + b"\r\n"


def get(path: bytes, *headers: bytes, **more: bytes) -> bytes:
    return request(b"GET", path, *headers, **more)


def post(*headers: bytes, **more: bytes) -> bytes:
    return request(b"POST", b"/api/v1/sessions", b"Content-Type: application/json", *headers, **more)


def body(text: bytes, path: bytes = b"/api/v1/sessions") -> bytes:
    length = b"Content-Length: %d" % len(text)
    return request(b"POST", path, b"Content-Type: application/json", length) + text


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


BAD: Final = (400, "MALFORMED_BODY")
UNPROCESSABLE: Final = (422, "VALIDATION_FAILED")
NO_LENGTH: Final = (411, "LENGTH_REQUIRED")
TE: Final = b"Transfer-Encoding: chunked"
LIVE: Final = b"/health/live"
LIST: Final = b"/api/v1/sessions"

ENDS: Final[dict[str, tuple[bytes, tuple[int, str | None]]]] = {
    # Where the body ends is said twice, or not clearly.
    "length and chunks": (post(b"Content-Length: 4", TE) + chunked(), BAD),
    "chunks and length": (post(TE, b"Content-Length: 5") + chunked(), BAD),
    "two codings": (post(TE, b"Transfer-Encoding: identity") + chunked(), BAD),
    "identity and length": (post(b"Transfer-Encoding: identity", b"Content-Length: 2") + b"{}", BAD),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked") + chunked(), (501, "MALFORMED_BODY")),
    "a blank before the colon": (post(b"Transfer-Encoding : chunked") + chunked(), BAD),
    "a tab behind it": (post(b"Transfer-Encoding:\tchunked") + chunked(), NO_LENGTH),
    "two lengths": (post(b"Content-Length: 2", b"Content-Length: 2") + b"{}", BAD),
    "a list of lengths": (post(b"Content-Length: 2, 2") + b"{}", BAD),
    "a signed length": (post(b"Content-Length: +2") + b"{}", BAD),
    "a hexadecimal length": (post(b"Content-Length: 0x2") + b"{}", BAD),
    "an empty length": (post(b"Content-Length: ") + b"{}", BAD),
    "a length with an underscore": (post(b"Content-Length: 1_0") + b"{}", BAD),
    "a length of other digits": (post(b"Content-Length: \xc2\xb2") + b"{}", BAD),
    "an endless length": (post(b"Content-Length: 99999999999999999999999") + b"{}", (413, "BODY_TOO_LARGE")),
    "a length that is too short": (post(b"Content-Length: 1") + b"{}", BAD),
    "a length that is too long": (post(b"Content-Length: 5000") + b"{}", BAD),
    "chunks": (post(TE) + chunked(b'{"query": "true"}'), NO_LENGTH),
    "chunks with extensions": (post(TE) + b'2;a=b\r\n{}\r\n0;x="y"\r\n\r\n', NO_LENGTH),
    "chunks that are none": (post(TE) + b"zz\r\n{}\r\n0\r\n\r\n", NO_LENGTH),
    "chunks of negative size": (post(TE) + b"-1\r\n{}\r\n0\r\n\r\n", NO_LENGTH),
    "chunks with bare line feeds": (post(TE) + b"2\n{}\n0\n\n", NO_LENGTH),
    "chunks with a trailer": (post(TE) + b"0\r\nContent-Length: 5\r\n\r\n", NO_LENGTH),
    "chunks where nobody reads": (get(LIVE, TE) + chunked(b"hello"), (200, None)),
    "chunks in HTTP/1.0": (post(TE, version=b"1.0") + chunked(b"{}"), BAD),
    "a body nobody reads": (post(b"Content-Length: 2000000", key=b"") + b" " * 2_000_000, (401, "API_KEY_REQUIRED")),
    # Lines that are none.
    "bare line feeds": (b"GET /health/live HTTP/1.1\nHost: x\n\n", BAD),
    "one bare line feed": (b"GET /health/live HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", BAD),
    "a bare carriage return": (get(LIVE, b"X: a\rY: b"), BAD),
    "a header without a colon": (get(LIVE, b"nonsense"), BAD),
    "a header without a name": (get(LIVE, b": y"), BAD),
    "a folded header": (get(LIVE, b"X: a\r\n b"), BAD),
    "a header before all": (b"GET /health/live HTTP/1.1\r\n Host: x\r\n\r\n", BAD),
    "a nul in a header": (get(LIVE, b"X: a\0b"), BAD),
    "two hosts": (get(LIVE, b"Host: y"), BAD),
    # Too much.
    "a header of 64 KiB": (get(LIVE, b"X: " + b"y" * 65536), (431, "MALFORMED_BODY")),
    "headers of 72 KiB": (get(LIVE, *(b"X-%d: %s" % (n, b"y" * 8000) for n in range(9))), (431, "MALFORMED_BODY")),
    "a thousand headers": (get(LIVE, *(b"X-%d: y" % n for n in range(1000))), (431, "MALFORMED_BODY")),
    "a name of a megabyte": (get(LIVE, b"X" * MIB + b": y"), (431, "MALFORMED_BODY")),
    "an address of a megabyte": (get(b"/" + b"y" * MIB), (414, "MALFORMED_BODY")),
    "ten thousand parameters": (get(LIST + b"?" + b"&".join([b"a=1"] * 10_000)), (414, "MALFORMED_BODY")),
    # What is no HTTP, or another one.
    "no version": (b"GET /health/live\r\n\r\n", BAD),
    "HTTP/2 known before": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
    "HTTP/1.0": (get(LIVE, version=b"1.0"), (200, None)),
    "a method in small letters": (request(b"get", LIVE), BAD),
    "an endless method": (request(b"A" * 100, LIVE), BAD),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", (404, "NOT_FOUND")),
    "bytes in the address": (get("/ä".encode()), BAD),
    "an address of nobody": (get(b"http://[::1/health/live"), BAD),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", BAD),
    "nothing but line ends": (b"\r\n\r\n\r\n", BAD),
}
"""Where what follows cannot be trusted, or need not be read: bytes, the answer."""

GOES_ON: Final[dict[str, tuple[bytes, tuple[int, str | None]]]] = {
    # Bodies.
    "200 000 brackets": (body(b"[" * 200_000), BAD),
    "200 000 objects": (body(b'{"a":' * 200_000), BAD),
    "200 000 brackets that end": (body(b"[" * 200_000 + b"]" * 200_000), BAD),
    "deep metadata": (body(b'{"query":"x","metadata":' + b'{"a":' * 500 + b"1" + b"}" * 501), BAD),
    "NaN": (body(b'{"query": "x", "metadata": {"a": NaN}}'), BAD),
    "infinity": (body(b'{"query": "x", "metadata": {"a": 1e999}}'), BAD),
    "a number of many digits": (body(b'{"query": "x", "timeout_minutes": ' + b"9" * 100_000 + b"}"), BAD),
    "half a pair": (body(rb'{"query": "\ud800"}'), UNPROCESSABLE),
    "half a pair as a name": (body(rb'{"query": "x", "\udfff": 1}'), UNPROCESSABLE),
    "a nul": (body(rb'{"query": "a\u0000b"}'), UNPROCESSABLE),
    "a name twice": (body(b'{"query": "true", "query": "false"}'), BAD),
    "a name twice within": (body(b'{"query": "true", "metadata": {"a": 1, "a": 2}}'), BAD),
    "a name twice, spelt apart": (body(rb'{"query": "true", "quer\u0079": "false"}'), BAD),
    "a byte order mark": (body(b"\xef\xbb\xbf{}"), BAD),
    "UTF-16": (body('{"query": "true"}'.encode("utf-16")), BAD),
    "no UTF-8": (body(b'{"query": "\xff"}'), BAD),
    "a mebibyte of one name each": (
        body(b'{"metadata": {' + b",".join(b'"%d":1' % n for n in range(80_000)) + b"}}"),
        UNPROCESSABLE,
    ),
    "another type": (request(b"POST", LIST, b"Content-Length: 2") + b"{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
    "a type that is none": (
        request(b"POST", LIST, b'Content-Type: \xff;;;="', b"Content-Length: 2") + b"{}",
        (415, "UNSUPPORTED_MEDIA_TYPE"),
    ),
    "a name with an underscore": (post(b"Content_Length: 2"), BAD),
    "a body for GET": (get(LIST, b"Content-Length: 5") + b"hello", (200, None)),
    "waiting for leave": (post(b"Expect: 100-continue", b"Content-Length: 2") + b"{}", UNPROCESSABLE),
    # Methods.
    "OPTIONS": (request(b"OPTIONS", LIST, key=b""), (200, None)),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (404, "NOT_FOUND")),
    "TRACE": (request(b"TRACE", LIST), (405, "METHOD_NOT_ALLOWED")),
    "TRACE of a session": (request(b"TRACE", LIST + b"/" + UNKNOWN), (405, "METHOD_NOT_ALLOWED")),
    "a method of nobody": (request(b"BREW", LIST), (405, "METHOD_NOT_ALLOWED")),
    "PATCH with a body": (request(b"PATCH", LIST, b"Content-Length: 2") + b"{}", (405, "METHOD_NOT_ALLOWED")),
    "DELETE of all": (request(b"DELETE", LIST), (405, "METHOD_NOT_ALLOWED")),
    "HTTP/1.0 that stays": (get(LIVE, b"Connection: keep-alive", version=b"1.0"), (200, None)),
    "HTTP/1.0 that stays after an error": (
        get(b"/nothing", b"Connection: keep-alive", version=b"1.0"),
        (404, "NOT_FOUND"),
    ),
    "an upgrade to HTTP/2": (get(LIVE, b"Connection: Upgrade", b"Upgrade: h2c"), (200, None)),
    # Addresses.
    "no UTF-8 in an id": (get(LIST + b"/%ff%fe"), (404, "SESSION_NOT_FOUND")),
    "a nul in an id": (get(LIST + b"/%00"), (404, "SESSION_NOT_FOUND")),
    "line ends in an id": (get(LIST + b"/%0d%0aSet-Cookie:%20a=b"), (404, "SESSION_NOT_FOUND")),
    "line ends in a key's id": (get(b"/api/v1/keys/%0d%0a", key=KEY.replace(b"ada", b"root")), (404, "NOT_FOUND")),
    "no UTF-8 in a path": (get(b"/%ff%fe%00"), (404, "NOT_FOUND")),
    "upwards": (get(b"/static/..%2f..%2f..%2fetc/passwd"), (404, "NOT_FOUND")),
    "an endless file name": (get(b"/static/" + b"x" * 4000), (404, "NOT_FOUND")),
    "no UTF-8 in a query": (get(LIST + b"?user_id=%ff%fe"), UNPROCESSABLE),
    "half a pair in a query": (get(LIST + b"?user_id=%ed%a0%80"), UNPROCESSABLE),
    "no UTF-8 in a filter": (get(LIST + b"?metadata.a=%ff"), UNPROCESSABLE),
    "no UTF-8 in a filter's name": (get(LIST + b"?metadata.%ff=a"), UNPROCESSABLE),
    "no UTF-8 in what nobody reads": (get(LIST + b"?other=%ff"), (200, None)),
    "a nul in a query": (get(LIST + b"?user_id=%00"), UNPROCESSABLE),
    "a nul in a filter": (get(LIST + b"?metadata.a=%00"), UNPROCESSABLE),
    "a place beyond all": (get(b"/api/v1/audit?after=" + b"9" * 30, key=KEY.replace(b"ada", b"root")), UNPROCESSABLE),
    "1 000 parameters": (get(LIST + b"?" + b"&".join([b"a=1"] * 1_000)), (200, None)),
    "a key in a query": (get(LIST + b"?API_KEY=x"), (400, "KEY_IN_QUERY")),
    "a key in a query of nobody": (get(b"/api/v1/sessions?token=x", key=b""), (400, "KEY_IN_QUERY")),
    # Headers.
    "no text in headers": (
        get(LIST, b"X-Request-ID: \xff\xfe", b"Accept: \xff;q=nan, */*;q=1e999,;;", b'If-None-Match: "\\'),
        (200, None),
    ),
    "no text in a key": (get(LIST, b"Authorization: Bearer \xff\xfe", key=b""), (401, "INVALID_API_KEY")),
    "two keys": (get(LIST, b"Authorization: Bearer bob-key"), (401, "INVALID_API_KEY")),
    "a place that is no text": (
        get(LIST + b"/" + UNKNOWN + b"/stream", b"Last-Event-ID: \xff\xfe"),
        (404, "SESSION_NOT_FOUND"),
    ),
    "an idempotency key that is no text": (
        post(b"Idempotency-Key: \xff\t", b"Content-Length: 17") + b'{"query": "true"}',
        UNPROCESSABLE,
    ),
    "another path than asked for": (
        get(b"/x/health/live", b"SCRIPT_NAME: /x", b"PATH_INFO: /health/live"),
        (404, "NOT_FOUND"),
    ),
    "schemes that differ": (get(LIVE, b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"), (200, None)),
    "a range of nothing": (get(LIST, b"Range: bytes=99999999999999999999-,,,"), (200, None)),
    "90 headers": (get(LIVE, *(b"X-%d: y" % n for n in range(90))), (200, None)),
}
"""Where the request is understood, and refused or not: bytes, the answer, and the connection stays."""

HEADS: Final[dict[str, tuple[bytes, int]]] = {
    "of what is there": (request(b"HEAD", LIVE), 200),
    "of a list": (request(b"HEAD", LIST), 200),
    "of nothing": (request(b"HEAD", b"/nothing"), 404),
    "without a key": (request(b"HEAD", LIST, key=b""), 401),
    "of a strange session": (request(b"HEAD", LIST + b"/" + UNKNOWN), 404),
    "with a key in the address": (request(b"HEAD", LIST + b"?key=x"), 400),
}


@pytest.fixture(scope="module")
def variables(new_database: Any, valkey: Any) -> dict[str, str]:
    from tests.integration.app.conftest import KEYS
    from tests.service import NO_RATE_LIMITS

    return {
        "DATABASE_URL": new_database(),
        "REDIS_URL": valkey.url,
        "API_KEYS": json.dumps(KEYS),
        "BODY_TIMEOUT_SECONDS": "1",
        "DATABASE_POOL_SIZE": str(POOL_SIZE),
        "FOLLOWER_TIMEOUT_SECONDS": "2",
        "GRACEFUL_TIMEOUT_SECONDS": "1",
        **NO_RATE_LIMITS,
    }


@pytest.fixture(scope="module")
def served(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A web process as it is run. When all is over it is the same one still, and has not met an error nobody foresaw."""
    gunicorn = Gunicorn(variables, tmp_path_factory.mktemp("hostile") / "log", config="gunicorn.conf.py")
    try:
        gunicorn.wait()
        before = worker_of(gunicorn)
        yield gunicorn
        assert worker_of(gunicorn) == before
        assert errors_in(gunicorn.log) == []
    finally:
        gunicorn.stop()


@pytest.mark.parametrize("name", ENDS)
def test_after_what_cannot_be_trusted_the_connection_ends(served: Gunicorn, name: str) -> None:
    sent, expected = ENDS[name]
    told, closed = exchange(served.port, sent)

    assert [(answer.status, answer.code) for answer in told[:1]] == [expected]
    assert closed
    # Bytes behind a body that was shorter than it said may be read as what they are: no request.
    assert {answer.code for answer in told[1:]} <= {"MALFORMED_BODY"}
    assert not any(answer.is_next for answer in told)


@pytest.mark.parametrize("name", GOES_ON)
def test_after_what_was_understood_the_connection_is_in_step(served: Gunicorn, name: str) -> None:
    sent, expected = GOES_ON[name]
    told, _ = exchange(served.port, sent)

    assert [(answer.status, answer.code) for answer in told] == [expected, (200, None)]
    assert told[1].is_next
    assert not {"set-cookie", "x-forwarded-for"} & {*told[0].headers}


@pytest.mark.parametrize("name", HEADS)
def test_an_answer_without_its_body_is_in_step_too(served: Gunicorn, name: str) -> None:
    sent, status = HEADS[name]
    told, _ = exchange(served.port, sent, head=True)

    assert [answer.status for answer in told] == [status, 200]
    assert told[1].is_next


def test_a_hundred_requests_at_once_have_a_hundred_answers(served: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(b"".join((get(LIVE), get(b"/nothing"), body(b"{}"))[n % 3] for n in range(99)) + NEXT)
        told, _ = read_answers(connection)

    assert [answer.status for answer in told] == [(200, 404, 422)[n % 3] for n in range(99)] + [200]


def test_what_is_sent_in_single_bytes_is_what_it_is(served: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in body(b'{"query": 1}') + NEXT:
            connection.sendall(bytes((byte,)))
        told, _ = read_answers(connection)

    assert [answer.status for answer in told] == [422, 200]


def test_a_hundred_megabytes_in_chunks_are_neither_taken_nor_kept(served: Gunicorn) -> None:
    before = memory_mib(worker_of(served))
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(post(TE))
        chunk, sent = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n", 0
        try:
            while sent < 100:
                connection.sendall(chunk)
                sent += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        told: list[Any] = []
        if sent < 100:
            told, _ = read_answers(connection)

    assert sent < 100, "all of it was taken"
    assert {(answer.status, answer.code) for answer in told} <= {NO_LENGTH}
    assert memory_mib(worker_of(served)) < before + 16


@pytest.mark.parametrize("sent", [get(LIVE)[:-2], post(b"Content-Length: 100") + b"{", post(TE) + b"5\r\nhel"])
def test_many_slow_connections_cost_the_others_nothing(served: Gunicorn, sent: bytes) -> None:
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS) for _ in range(300)]
    try:
        for connection in slow:
            connection.sendall(sent)
        for _ in range(20):
            told, _ = exchange(served.port, get(LIST))
            assert [answer.status for answer in told] == [200, 200]
        for connection in slow:
            assert read_answers(connection)[1]
    finally:
        for connection in slow:
            connection.close()


def test_connections_that_are_reset_leave_nothing_behind(served: Gunicorn) -> None:
    worker = worker_of(served)

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    exchange(served.port, get(LIST))
    before = descriptors()
    for sent in (b"", b"GET", get(LIST), post(b"Content-Length: 100") + b"{", body(b'{"query": 1}')) * 40:
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS)
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    # What it has gained are connections to PostgreSQL, which are kept, at most so many.
    eventually(lambda: descriptors() <= before + POOL_SIZE + 2, 15)


def test_after_everything_was_sent_many_times_the_memory_is_what_it_was(served: Gunicorn) -> None:
    everything = [sent for sent, _ in (*ENDS.values(), *GOES_ON.values())]

    def send_all() -> None:
        for sent in everything:
            exchange(served.port, sent)

    send_all()
    before = memory_mib(worker_of(served))
    for _ in range(4):
        send_all()

    assert memory_mib(worker_of(served)) < before + GROWTH_MIB
