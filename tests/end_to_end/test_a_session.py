"""One session from its creation to its end, as its client sees it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.client import Client, Event
    from tests.service import Service

THREE_LINES = "for i in 1 2 3; do echo line $i; sleep 0.2; done; exit 7"
PRINTED = b"line 1\nline 2\nline 3\n"


@pytest.fixture(scope="module")
def streamed(service_client: Client) -> tuple[str, list[Event]]:
    session_id = service_client.create(THREE_LINES)
    return session_id, service_client.events(session_id)


@pytest.fixture(scope="module")
def service_client(service: Service) -> Client:
    return service.ada


def test_a_stream_begins_with_connected_and_ends_with_terminated(streamed: tuple[str, list[Event]]) -> None:
    kinds = [event.event for event in streamed[1]]

    assert (kinds[0], kinds[-1]) == ("connected", "terminated")
    assert kinds.count("terminated") == kinds.count("connected") == 1
    assert "status" in kinds
    assert "output" in kinds


def test_output_arrives_while_the_program_runs(service_client: Client) -> None:
    """The program prints its next line only when it is told to: what is not delivered live never comes."""
    session_id = service_client.create("for i in 1 2 3; do echo line $i; read told; done; exit 7")
    with service_client.follow(session_id) as stream:
        lines = 0
        for event in stream:
            if event.event == "output":
                lines += 1
                assert event.content == b"line %d\n" % lines
                assert service_client.input(session_id, "go on").status == 200

    assert lines == 3
    assert (event.event, event.data["exit_code"]) == ("terminated", 7)


def test_entries_are_numbered_without_holes(streamed: tuple[str, list[Event]]) -> None:
    ids = [event.id for event in streamed[1] if event.event != "connected"]

    assert streamed[1][0].id is None
    assert ids == list(range(1, len(ids) + 1))


def test_the_end_says_how_and_how_much(streamed: tuple[str, list[Event]]) -> None:
    events = streamed[1]
    end = events[-1].data

    assert b"".join(event.content for event in events if event.event == "output") == PRINTED
    assert (end["status"], end["reason"], end["exit_code"], end["exit_signal"]) == ("failed", "exit_code", 7, None)
    assert (end["output_bytes"], end["output_sha256"]) == (len(PRINTED), hashlib.sha256(PRINTED).hexdigest())


def test_coming_again_after_the_end_is_answered_with_nothing(
    streamed: tuple[str, list[Event]], service_client: Client
) -> None:
    session_id, events = streamed

    with service_client.follow(session_id, last_event_id=events[-1].id) as stream:
        assert stream.status == 204
        assert list(stream) == []


def test_output_and_status_say_the_same_as_the_stream(
    streamed: tuple[str, list[Event]], service_client: Client
) -> None:
    session_id, _ = streamed
    shown = service_client.get(session_id)
    page = service_client.request("GET", f"/api/v1/sessions/{session_id}/output").json()

    assert service_client.output(session_id) == PRINTED
    assert (page["output"], page["complete"], page["next_offset"]) == (PRINTED.decode(), True, len(PRINTED))
    assert (shown["status"], shown["reason"], shown["exit_code"]) == ("failed", "exit_code", 7)
    assert shown["output_bytes"] == shown["output_buffer_size"] == len(PRINTED)
    assert shown["terminated_at"] >= shown["started_at"] >= shown["created_at"]


def test_a_program_that_exits_with_zero_has_completed(service_client: Client) -> None:
    session_id = service_client.create("exit 0")
    end = service_client.events(session_id)[-1].data

    assert (end["status"], end["reason"], end["exit_code"], end["output_bytes"]) == ("completed", "exited", 0, 0)
    assert service_client.status(session_id) == "completed"


def test_a_program_killed_by_a_signal_has_failed(service_client: Client) -> None:
    end = service_client.events(service_client.create("kill -KILL $$"))[-1].data

    assert (end["status"], end["reason"], end["exit_code"], end["exit_signal"]) == ("failed", "signal", None, "KILL")


def test_stdout_and_stderr_are_told_apart(service_client: Client) -> None:
    session_id = service_client.create("echo out; sleep 0.1; echo err >&2")
    outputs = [event for event in service_client.events(session_id) if event.event == "output"]

    assert [(event.data["stream"], event.content) for event in outputs] == [("stdout", b"out\n"), ("stderr", b"err\n")]


def test_head_of_a_stream_answers_headers_and_ends(service_client: Client) -> None:
    session_id = service_client.create("sleep 60")
    answer = service_client.request("HEAD", f"/api/v1/sessions/{session_id}/stream", timeout=5)
    service_client.delete(session_id)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"


@pytest.mark.case(37)
def test_bytes_that_are_no_text_come_out_as_they_went_in(service_client: Client) -> None:
    session_id = service_client.create(r"printf '\377\000\303'; sleep 0.3; printf '\251\n'")
    outputs = [event for event in service_client.events(session_id, "?encoding=base64") if event.event == "output"]

    assert b"".join(event.content for event in outputs) == b"\xff\x00\xc3\xa9\n"
    assert service_client.output(session_id) == b"\xff\x00\xc3\xa9\n"


@pytest.mark.case(26)
def test_what_a_program_leaves_behind_does_not_keep_its_session(service_client: Client) -> None:
    end = service_client.events(service_client.create("(setsid sleep 60 &) ; echo gone"))[-1].data

    assert (end["status"], end["output_bytes"]) == ("completed", 5)
