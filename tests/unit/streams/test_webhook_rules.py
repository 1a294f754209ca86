"""Where webhooks may point to, what is connected to, and what follows from an attempt: decided without a network."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from models.delivery_claims import Due, Verdict
from models.events import Envelope
from streams.webhooks.addresses import Refused, Rules, is_public
from streams.webhooks.posting import Answer
from streams.webhooks.schedule import LONGEST_SECONDS, REMOVED, Schedule
from streams.webhooks.targets import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86400.0
SCHEDULE = Schedule(5.0, DAY, lambda least, most: (least + most) / 2)
AT = datetime(2026, 11, 24, tzinfo=UTC)
ENVELOPE = Envelope(
    event_type="session.created",
    session_id=None,
    event_id="",
    position=None,
    payload={},
    timestamp="",
    request_id=None,
    actor=None,
)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "file:///etc/passwd", "gopher://example.org", "//example.org", "example.org", ""),
        *("https://user@example.org/", "https://user:pass@example.org/", "https://@example.org/"),
        *("https:///path", "https://", "http://:80/", "https://exa mple.org/", "https://example.org/a b"),
        *("https://example.org:22/", "https://example.org:25/", "http://example.org:6667/", "http://a:99999/"),
        *(
            "https://example.org/#part",
            "https://exämple.org/",
            "https://example.org\\@127.0.0.1/",
            "https://a/\r\nX: y",
        ),
        *("http://[::1", "http://[zz]/", "http://a..b/", "http://a%00b/", "https://" + "a" * 2048),
    ],
)
def test_what_is_no_receivers_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must"):
        parse(url)


def test_a_url_has_its_parts() -> None:
    target = parse("https://Hooks.Example.org/in?x=1")
    assert (target.is_tls, target.host, target.port, target.path) == (True, "hooks.example.org", 443, "/in?x=1")
    assert parse("http://127.0.0.2:8080").path == "/"
    assert parse("http://[::ffff:7f00:1]:8080/").host == "::ffff:7f00:1"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0.0.0.0"),
        *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255"),
        *("198.18.0.1", "203.0.113.9", "240.0.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::", "2001::1", "2001:db8::1", "fec0::1"),
    ],
)
def test_addresses_that_are_nobodys_or_somebodys_own_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
def test_a_literal_address_is_known_however_it_is_spelt(host: str) -> None:
    with pytest.raises(Refused):
        Rules((), plain_http=True).look(parse(f"http://{host}/"))
    with pytest.raises(Refused):
        Rules(("127.0.0.2", "10.0.0.0/8"), plain_http=True).look(parse(f"http://{host}/"))


def test_allowed_networks_are_allowed_also_within_an_ipv6_address() -> None:
    rules = Rules(("127.0.0.2", "fd00::/8"), plain_http=False)

    assert rules.why_not(ip_address("127.0.0.2"), tls=False) is None
    assert rules.why_not(ip_address("::ffff:127.0.0.2"), tls=True) is None
    assert rules.why_not(ip_address("fd12::1"), tls=True) is None
    assert rules.why_not(ip_address("127.0.0.1"), tls=True) is not None
    assert rules.why_not(ip_address("8.8.8.8"), tls=True) is None
    assert rules.why_not(ip_address("8.8.8.8"), tls=False) is not None, "in production the world is spoken to with TLS"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_name_that_means_something_else_a_moment_later_is_asked_once(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    asked = []

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    rules = Rules(("127.0.0.2",), plain_http=True, resolve=resolve)
    with pytest.raises(ConnectionRefusedError):  # nobody is at 127.0.0.2, whoever is at 127.0.0.1
        rules.connect(parse(f"http://rebinds.example:{port}/"), 1)
    assert asked == ["rebinds.example"]
    with pytest.raises(Refused):
        rules.connect(parse(f"http://rebinds.example:{port}/"), 1)
    listening.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listening.accept()


def test_of_several_addresses_only_those_that_may_be_are_tried(listening: socket.socket) -> None:
    port = listening.getsockname()[1]

    def resolve(_: str, port: int, **__: Any) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%lo", port, 0, 1)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    rules = Rules(("127.0.0.1",), plain_http=True, resolve=resolve)
    with rules.connect(parse(f"http://several.example:{port}/"), 1) as connection:
        assert connection.getpeername() == ("127.0.0.1", port)


def due(attempts: int = 0, waited: float = 0.0, *, ping: bool = False) -> Due:
    return Due(UUID(int=1), UUID(int=2), AT, attempts, waited, ping, ENVELOPE, "https://example.org/", [b"x"])


def test_pauses_grow_to_four_hours_and_the_last_attempt_is_at_the_end_of_the_day() -> None:
    waited, pauses = 0.0, list[float]()
    while (outcome := SCHEDULE.outcome(due(len(pauses), waited), Answer("http_error", "HTTP 500", 500))).verdict is (
        Verdict.AGAIN
    ):
        pauses.append(outcome.again_seconds)
        waited += outcome.again_seconds

    assert pauses[:4] == [5, 20, 80, 320]
    assert max(pauses) == LONGEST_SECONDS
    assert waited == DAY
    assert outcome.verdict is Verdict.DEAD
    assert len(pauses) < 20


def test_what_the_receiver_asks_for_is_waited_for_but_not_beyond_the_end() -> None:
    def answered(seconds: float, waited: float = 0.0) -> tuple[float, float]:
        outcome = SCHEDULE.outcome(due(0, waited), Answer("http_error", "HTTP 429", 429, seconds))
        return outcome.again_seconds, outcome.rest_seconds

    assert answered(60) == (60, 60)
    assert answered(1) == (5, 1), "never sooner than we would have come by ourselves"
    assert answered(1e9, DAY - 100) == (100, DAY)


def test_a_ping_is_tried_once_and_the_gone_are_left_alone() -> None:
    failed = Answer("timeout", "no answer within 10 s")

    assert SCHEDULE.outcome(due(ping=True), failed).verdict is Verdict.DEAD
    assert SCHEDULE.outcome(due(), REMOVED).verdict is Verdict.DEAD
    assert SCHEDULE.outcome(due(waited=DAY), failed).verdict is Verdict.DEAD
    assert SCHEDULE.outcome(due(), Answer("http_error", "HTTP 410", 410)).verdict is Verdict.GONE
    assert SCHEDULE.outcome(due(), Answer("delivered", None, 204)).verdict is Verdict.DELIVERED
