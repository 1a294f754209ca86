"""Following from any position, by any number of readers, whatever became of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client import Reader

if TYPE_CHECKING:
    from tests.client import Client, Event
    from tests.service import Service

TEN_LINES = "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.02; done"


@pytest.fixture(scope="module")
def ended(service: Service) -> tuple[str, list[Event]]:
    """A session that is over, and all its entries."""
    session_id = service.ada.create(TEN_LINES)
    return session_id, service.ada.events(session_id)[1:]


def told(events: list[Event]) -> list[tuple[int | None, str, object]]:
    """What events say, without when they were read."""
    return [(event.id, event.event, event.data) for event in events]


def test_every_position_gets_exactly_the_rest(ada: Client, ended: tuple[str, list[Event]]) -> None:
    session_id, entries = ended
    assert len(entries) >= 5

    for position in range(len(entries)):
        rest = ada.events(session_id, f"?after={position}")
        assert told(rest[1:]) == told(entries[position:])


def test_the_last_event_id_beats_after(ada: Client, ended: tuple[str, list[Event]]) -> None:
    session_id, entries = ended
    rest = ada.events(session_id, "?after=1", last_event_id=len(entries) - 1)

    assert told(rest[1:]) == told(entries[-1:])


@pytest.mark.parametrize("position", ["?after=-1", "?after=x", "?after=1.5", "?after=1e3", "?after=", "?after=999999"])
def test_what_is_no_position_is_refused(ada: Client, ended: tuple[str, list[Event]], position: str) -> None:
    answer = ada.request("GET", f"/api/v1/sessions/{ended[0]}/stream{position}")

    assert (answer.status, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def test_a_position_beyond_a_live_session_is_refused(ada: Client) -> None:
    session_id = ada.create("sleep 60")
    answer = ada.request("GET", f"/api/v1/sessions/{session_id}/stream?after=999")
    ada.delete(session_id)

    assert (answer.status, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def test_a_late_follower_reads_what_an_early_one_read(ada: Client) -> None:
    session_id = ada.create("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done")
    early = Reader(ada, session_id)
    with ada.follow(session_id) as stream:
        stream.until("output")
    late = Reader(ada, session_id)

    assert early.finish() == late.finish()
    assert (early.sha256, early.last_id) == (late.sha256, late.last_id)


def test_the_last_lines_come_first_to_who_wants_only_them(ada: Client, ended: tuple[str, list[Event]]) -> None:
    outputs = [event for event in ada.events(ended[0], "?tail=2") if event.event == "output"]

    assert b"".join(event.content for event in outputs) == b"line 9\nline 10\n"


def test_a_filter_leaves_the_first_and_the_last_event(ada: Client, ended: tuple[str, list[Event]]) -> None:
    kinds = [event.event for event in ada.events(ended[0], "?events=status")]

    assert (kinds[0], kinds[-1]) == ("connected", "terminated")
    assert set(kinds[1:-1]) == {"status"}
    assert "output" in {event.event for event in ada.events(ended[0], "?events=output")}


def test_an_ended_session_needs_no_redis(service: Service, ended: tuple[str, list[Event]]) -> None:
    session_id, entries = ended
    service.redis().flushall()

    assert told(service.ada.events(session_id)[1:]) == told(entries)
    assert service.ada.output(session_id) == b"".join(e.content for e in entries if e.event == "output")
