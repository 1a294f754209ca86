"""Sessions that cannot start, end at once, are ended twice or run out of time: one end each, with the reason, and exact."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.checks import how, wait

if TYPE_CHECKING:
    from tests.client import Client
    from tests.service import Service

RACES: Final = 24
ENDED: Final = {("completed", "exited"), ("terminated", "requested")}
FULL_DISK: Final = ("tests.programs.worker_on_a_full_disk",)


def end_of(client: Client, session_id: str) -> dict[str, object]:
    """Follow a session to its end; what the stream says is what is shown, and it is said once."""
    events = client.events(session_id)
    assert [event.event for event in events].count("terminated") == 1
    end = events[-1].data
    shown = client.get(session_id)
    assert how(end) == how(shown)
    assert end["exit_code"] == shown["exit_code"]
    return shown


@pytest.mark.case(30)
def test_what_cannot_be_executed_fails_with_the_reason_and_leaves_no_workspace(elsewhere: Service) -> None:
    ada = elsewhere.ada
    elsewhere.worker("one")
    for program, why in (("missing", "No such file or directory"), ("no-program", "Permission denied")):
        session_id = ada.create("x", program=program)
        shown = end_of(ada, session_id)

        assert how(shown) == ("failed", "spawn_failed")
        assert why in str(shown["error"])
        assert (shown["exit_code"], shown["started_at"], shown["claude_process_id"]) == (None, None, None)
        assert not (elsewhere.home / "workspaces" / session_id).exists()
    gone = elsewhere.home / "removed-before-the-start"
    gone.mkdir()
    elsewhere.dismiss("one")
    session_id = ada.create("true", current_directory=str(gone))
    gone.rmdir()
    elsewhere.worker("one")
    assert how(end_of(ada, session_id)) == ("failed", "spawn_failed")


@pytest.mark.case(30)
def test_what_ends_at_once_ends_with_its_code_and_all_it_said(staffed: Service) -> None:
    ada = staffed.ada
    staffed.worker("one")
    codes = {"exit 0": 0, "no-such-command": 127, "/etc/passwd": 126, "exit 255": 255}
    sessions = {query: [ada.create(f"echo said; {query}") for _ in range(5)] for query in codes}
    for query, code in codes.items():
        for session_id in sessions[query]:
            shown = end_of(ada, session_id)
            assert (shown["reason"], shown["exit_code"]) == ("exit_code" if code else "exited", code)
            assert b"said\n" in ada.output(session_id)
            kinds = [event.event for event in ada.events(session_id)]
            assert kinds.index("output") < kinds.index("terminated")


@pytest.mark.case(34)
def test_a_stop_that_races_with_the_programs_own_end_writes_one_end(staffed: Service) -> None:
    ada, dice = staffed.ada, random.Random(7)
    sessions = [ada.create(f"echo here; sleep 0.{dice.randrange(2, 8)}") for _ in range(RACES)]
    delays = [dice.uniform(0, 0.8) for _ in sessions]

    def stop(session_id: str, seconds: float) -> None:
        wait(seconds)
        for _ in range(2):
            assert ada.delete(session_id, "?wait=25").status == 200

    threads = [threading.Thread(target=stop, args=pair) for pair in zip(sessions, delays, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    ends = Counter(how(end_of(ada, session_id)) for session_id in sessions)
    assert set(ends) <= ENDED
    finals = "SELECT session_id, count(*) FROM events WHERE event_type IN %s AND session_id IN %s GROUP BY 1"
    kinds = ("session.completed", "session.terminated", "session.failed")
    told = staffed.rows(finals, kinds, tuple(sessions))
    assert sorted(count for _, count in told) == [1] * RACES


@pytest.mark.case(35)
def test_a_session_that_runs_too_long_or_stands_idle_too_long_is_ended_with_the_reason(elsewhere: Service) -> None:
    ada = elsewhere.ada
    long = ada.create("while :; do echo busy; sleep 0.1; done")
    deaf = ada.create("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    idle = ada.create("echo idle; sleep 1000", idle_timeout_seconds=1)
    # Its time is in minutes for clients.
    shorter = "UPDATE sessions SET timeout_seconds = 2 WHERE id IN %s RETURNING 1"
    assert len(elsewhere.rows(shorter, (long, deaf))) == 2
    elsewhere.worker("one")

    assert how(end_of(ada, idle)) == ("terminated", "idle_timeout")
    assert how(end_of(ada, long)) == ("terminated", "timeout")
    shown = end_of(ada, deaf)
    assert (how(shown), shown["exit_signal"]) == (("terminated", "timeout"), "KILL")
    assert elsewhere.leftovers() == []


@pytest.mark.case(53)
def test_a_worker_that_can_make_no_workspace_fails_sessions_and_stays_of_use(elsewhere: Service) -> None:
    home = elsewhere.home / "home-without-workspaces"
    worker = elsewhere.worker("one", JELMORE_HOME=str(home))
    elsewhere.wait_ready()
    in_the_way = home / "workspaces"
    in_the_way.rmdir()
    in_the_way.write_text("a file")

    shown = end_of(elsewhere.ada, elsewhere.ada.create("true"))
    in_the_way.unlink()
    after = end_of(elsewhere.ada, elsewhere.ada.create("true"))

    assert how(shown) == ("failed", "spawn_failed")
    assert shown["error"]
    assert how(after) == ("completed", "exited")
    assert worker.alive


@pytest.mark.case(53)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, in a namespace of its own")
def test_a_full_disk_fails_what_needs_room_and_nothing_else(elsewhere: Service) -> None:
    ada = elsewhere.ada
    worker = elsewhere.worker("full", command=FULL_DISK, JELMORE_HOME=str(elsewhere.home / "tiny"))
    elsewhere.wait_ready()
    kept = ada.create("while read line; do echo got $line; done")
    writes = end_of(ada, ada.create("head -c 1000000 /dev/zero > big; echo wrote: $?; rm big"))
    fills = end_of(ada, ada.create("i=0; while touch file$i 2>/dev/null; do i=$((i+1)); done; echo full"))
    refused = end_of(ada, ada.create("echo never"))

    assert how(writes) == how(fills) == ("completed", "exited")
    printed = ada.output(str(writes["session_id"]))
    assert b"No space left on device" in printed
    assert b"wrote: 1\n" in printed
    assert how(refused) == ("failed", "spawn_failed")
    assert "No space left on device" in str(refused["error"])
    with ada.follow(kept) as stream:
        ada.input(kept, "hello")
        assert stream.until("output")[-1].content == b"got hello\n"
    assert worker.alive
