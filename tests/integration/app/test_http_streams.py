"""GET stream of sessions that have ended: the same in any process."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest

from models.lifecycle import Reason
from tests.integration.app.reading import events_of

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


@pytest.fixture
def ended(api: Api, holder: Holder) -> UUID:
    """A session whose log is: three outputs (1-3), the last status (4), the end (5)."""
    session_id = api.create()
    run = holder.run(session_id)
    for line in (b"one\n", b"tw\xff\n", b"three\n"):
        run.write(line)
    run.end()
    return session_id


def test_a_stream_begins_with_connected_and_ends_with_terminated(api: Api, ended: UUID) -> None:
    events = events_of(api, ended)

    assert [event.event for event in events] == ["connected", "output", "output", "output", "status", "terminated"]
    assert [event.id for event in events] == [None, 1, 2, 3, 4, 5]
    assert events[0].data["session_id"] == str(ended)
    assert [event.data["offset"] for event in events[1:4]] == [0, 4, 8]
    final = events[-1].data
    assert (final["status"], final["exit_code"], final["reason"]) == ("completed", 0, "exited")
    assert final["output_bytes"] == 14
    assert final["output_sha256"] == hashlib.sha256(b"one\ntw\xff\nthree\n").hexdigest()


def test_a_stream_says_that_it_is_one(api: Api, ended: UUID) -> None:
    for method in ("GET", "HEAD"):
        headers = api.call(method, f"/sessions/{ended}/stream").headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in headers


def test_a_reader_comes_back_with_the_last_id(api: Api, ended: UUID) -> None:
    for seq in range(5):
        events = events_of(api, ended, **{"Last-Event-ID": str(seq)})
        assert [event.id for event in events] == [None, *range(seq + 1, 6)]


def test_who_has_read_the_end_is_told_not_to_come_again(api: Api, ended: UUID) -> None:
    for query, headers in (("", {"Last-Event-ID": "5"}), ("?after=5", {})):
        answer = api.get(f"/sessions/{ended}/stream{query}", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Content-Type" not in answer.headers


def test_the_last_id_beats_after_and_after_beats_tail(api: Api, ended: UUID) -> None:
    assert [event.id for event in events_of(api, ended, "?after=1&tail=2", **{"Last-Event-ID": "3"})] == [None, 4, 5]
    assert [event.id for event in events_of(api, ended, "?after=2&tail=3")] == [None, 3, 4, 5]


@pytest.mark.parametrize(("lines", "text"), [(0, ""), (1, "three\n"), (2, "tw\N{REPLACEMENT CHARACTER}\nthree\n")])
def test_a_tail_is_the_last_lines_and_the_end(api: Api, ended: UUID, lines: int, text: str) -> None:
    events = events_of(api, ended, f"?tail={lines}")

    assert "".join(event.data["content"] for event in events if event.event == "output") == text
    assert events[-1].event == "terminated"


@pytest.mark.parametrize("place", ["x", "-1", "1.0", "6", "99999999999999999999", "१", " 1"])
def test_a_place_that_is_none_is_refused(api: Api, ended: UUID, place: str) -> None:
    answer = api.get(f"/sessions/{ended}/stream", params={"after": place})

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def test_a_reader_who_saw_more_than_a_lost_worker_saved_gets_the_end(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).end(Reason.WORKER_LOST, exit_code=None)

    events = events_of(api, session_id, **{"Last-Event-ID": "40"})

    assert [event.event for event in events] == ["connected", "terminated"]


def test_a_filter_never_holds_back_the_end(api: Api, ended: UUID) -> None:
    assert [event.event for event in events_of(api, ended, "?events=nothing")] == ["connected", "terminated"]
    for query in ("?events=output,status", "?events=output&events=status"):
        assert len(events_of(api, ended, query)) == 6
    for query in ("?view=events", "?view=events&events=output,status"):
        assert [event.event for event in events_of(api, ended, query)] == ["connected", "status", "terminated"]


@pytest.mark.parametrize("how", ["encoding=base64", "view=raw"])
def test_bytes_that_are_no_text_come_exactly_as_base64(api: Api, ended: UUID, how: str) -> None:
    events = events_of(api, ended, f"?{how}&events=output")

    contents = [base64.b64decode(event.data["content_base64"]) for event in events if event.event == "output"]
    assert contents == [b"one\n", b"tw\xff\n", b"three\n"]
