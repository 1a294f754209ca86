"""One worker cut off from a server that everybody else reaches, replies that are lost, a database that forgets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.checks import eventually, holds_for, how, is_alive, marked, runs
from tests.client import Reader
from tests.programs.shell import ANSWERS, endless, is_numbered_lines
from tests.proxy import Proxy, proxied

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.member import Member
    from tests.service import Service

LOST = ("failed", "worker_lost")
CLAIM = b"SET worker = me.incarnation"
COMMIT = b"COMMIT"
ONE_AT_A_TIME = """
for pid in $(cat {pids}); do kill -0 $pid 2>&- && echo twice >> {log}; done
echo $$ >> {pids}
echo ran as $$
trap 'exit 0' TERM
sleep 1000 & wait
"""


@pytest.fixture
def to_postgres(elsewhere: Service) -> Iterator[Proxy]:
    with proxied(elsewhere.database_url) as proxy:
        yield proxy
        elsewhere.dismiss(*elsewhere.workers)


@pytest.fixture
def to_redis(elsewhere: Service) -> Iterator[Proxy]:
    with proxied(elsewhere.valkey.url) as proxy:
        yield proxy
        elsewhere.dismiss(*elsewhere.workers)


@pytest.fixture
def remote(elsewhere: Service, to_postgres: Proxy, to_redis: Proxy) -> Member:
    """A worker whose ways to both servers can be cut."""
    worker = elsewhere.worker("remote", DATABASE_URL=to_postgres.url, REDIS_URL=to_redis.url)
    elsewhere.wait_ready()
    return worker


@pytest.mark.case(14, 18)
def test_a_worker_cut_off_from_postgres_ends_its_sessions_by_the_lease_and_nobody_runs_them_twice(
    elsewhere: Service, remote: Member, to_postgres: Proxy
) -> None:
    ada, lease = elsewhere.ada, elsewhere.seconds("LEASE_SECONDS")
    sessions = [ada.create(endless(0.1)) for _ in range(3)]
    readers = [Reader(ada, session_id, limit_seconds=120) for session_id in sessions]
    eventually(lambda: all(reader.size for reader in readers))
    incarnation = elsewhere.incarnations("remote")[-1]

    to_postgres.black_hole()
    cut = time.monotonic()
    elsewhere.worker("two")
    eventually(lambda: not marked([incarnation]), lease + 1)
    gone_after = time.monotonic() - cut
    assert (
        elsewhere.rows("SELECT count(*) FROM sessions WHERE worker = %s AND ended_at IS NULL", incarnation)[0][0] == 3
    )
    eventually(lambda: all(how(ada.get(each)) == LOST for each in sessions), elsewhere.takeover_seconds)
    ended = [ada.get(session_id) for session_id in sessions]
    printed = [ada.output(session_id) for session_id in sessions]
    to_postgres.heal()

    assert gone_after > lease / 2
    assert remote.wait(elsewhere.seconds("LEASE_RENEWAL_SECONDS") + 15) == 75
    for reader, output in zip(readers, printed, strict=True):
        assert how(reader.finish()) == LOST
        assert is_numbered_lines(output)
        assert len(output) == reader.size
    assert [ada.get(session_id) for session_id in sessions] == ended
    assert [ada.output(session_id) for session_id in sessions] == printed
    assert elsewhere.leftovers() == []


@pytest.mark.case(18)
def test_a_worker_cut_off_from_redis_runs_its_sessions_takes_their_input_and_ends_them(
    elsewhere: Service, remote: Member, to_redis: Proxy
) -> None:
    ada = elsewhere.ada
    sessions = [ada.create(ANSWERS) for _ in range(3)]
    readers = [Reader(ada, session_id, limit_seconds=60) for session_id in sessions]
    eventually(lambda: all(reader.size for reader in readers))
    look = elsewhere.seconds("LEASE_RENEWAL_SECONDS") + 10

    for fault in (to_redis.black_hole, to_redis.refuse):
        fault()
        said = fault.__name__
        for session_id in sessions:
            assert ada.input(session_id, said).status == 200
        for session_id in sessions:
            answer = f"got {said}\n".encode()
            eventually(lambda: ada.output(session_id).endswith(answer), look, every=0.2)  # noqa: B023
    assert ada.delete(sessions[0], "?wait=25").status == 200
    to_redis.heal()

    ends = [readers[0].finish()]
    for session_id, reader in zip(sessions[1:], readers[1:], strict=True):
        assert runs(ada.get(session_id))
        assert ada.delete(session_id, "?wait=25").status == 200
        ends.append(reader.finish())
    assert {how(end) for end in ends} == {("terminated", "requested")}
    assert remote.alive
    assert {ada.output(session_id) for session_id in sessions} == {b"ready\ngot black_hole\ngot refuse\n"}


@pytest.mark.case(18, 23)
def test_a_claim_whose_commit_was_not_confirmed_runs_its_session_once(
    elsewhere: Service, remote: Member, to_postgres: Proxy
) -> None:
    trace = elsewhere.home / "claimed-without-a-reply"
    to_postgres.lose_reply_to(CLAIM, COMMIT)
    session_id = elsewhere.ada.create(f"echo run >> {trace}; echo done")
    end = elsewhere.ada.events(session_id)[-1].data

    assert to_postgres.replies_lost == 1
    assert how(end) == ("completed", "exited")
    assert trace.read_text() == "run\n"
    assert elsewhere.ada.output(session_id) == b"done\n"
    assert remote.alive


@pytest.mark.case(23)
def test_a_session_that_postgres_says_is_held_by_a_worker_that_knows_nothing_of_it_ends(
    elsewhere: Service, remote: Member
) -> None:
    neighbour = elsewhere.ada.create(ANSWERS)
    fillers = [elsewhere.ada.create("sleep 1000") for _ in range(int(elsewhere.seconds("WORKER_SLOTS")) - 1)]
    eventually(lambda: all(runs(elsewhere.ada.get(each)) for each in [neighbour, *fillers]), 20, every=0.2)
    session_id = elsewhere.ada.create("echo never")
    incarnation = elsewhere.incarnations("remote")[-1]
    claim = "UPDATE sessions SET worker = %s, claim = 'lost', fence = fence + 1, claimed_at = now() WHERE id = %s RETURNING 1"
    assert elsewhere.rows(claim, incarnation, session_id) == [(1,)]

    end = elsewhere.ada.events(session_id)[-1].data
    for filler in fillers:
        elsewhere.ada.delete(filler, "?wait=0")

    assert how(end) == ("failed", "claim_lost")
    assert elsewhere.ada.output(session_id) == b""
    assert runs(elsewhere.ada.get(neighbour))
    assert remote.alive


@pytest.mark.case(23)
def test_a_database_that_lost_its_last_commits_leaves_no_session_twice_alive_and_none_without_a_process(
    staffed: Service, tmp_path: Path
) -> None:
    ada = staffed.ada
    staffed.worker("one")
    staffed.worker("two")
    staffed.wait_ready()
    paths = {name: tmp_path / name for name in ("log", "pids")}
    paths["pids"].touch()
    session_id = ada.create(ONE_AT_A_TIME.format(**paths))
    eventually(paths["pids"].read_text)
    first = int(paths["pids"].read_text())
    eventually(lambda: ada.output(session_id) == b"ran as %d\n" % first)

    # What a fail-over without the last seconds looks like: the claim and all that followed never happened.
    forget(staffed, session_id)
    eventually(lambda: not is_alive(first), staffed.seconds("LEASE_SECONDS") + 1)
    again = staffed.seconds("RESEND_AFTER_SECONDS") + 2 * staffed.seconds("HOUSEKEEPING_INTERVAL_SECONDS")
    eventually(lambda: len(paths["pids"].read_text().split()) == 2, again + staffed.takeover_seconds)
    second = int(paths["pids"].read_text().split()[1])
    eventually(lambda: runs(ada.get(session_id)))

    assert ada.get(session_id)["claude_process_id"] == str(second)
    assert is_alive(second)
    assert not paths["log"].exists(), "two ran at the same time"
    printed = b"ran as %d\n" % second
    eventually(lambda: ada.output(session_id) == printed, 5)
    ada.delete(session_id, "?wait=25")
    end = ada.events(session_id)[-1].data
    assert (how(end), end["output_bytes"]) == (("terminated", "requested"), len(printed))
    assert ada.output(session_id) == printed
    assert staffed.leftovers() == []


@pytest.mark.case(23)
def test_what_a_holder_stores_after_the_database_forgot_its_claim_is_not_taken_for_its_successors(
    elsewhere: Service,
) -> None:
    ada = elsewhere.ada
    for name in ("one", "two"):
        elsewhere.worker(name, SEGMENT_INTERVAL_SECONDS="0.1")  # it stores before it renews its lease
    elsewhere.wait_ready()
    session_id = ada.create("trap 'exit 0' TERM; echo ran as $$; while :; do date +%N; sleep 0.05; done 2>/dev/null")
    first = eventually(lambda: ran_as(ada.output(session_id)))

    forget(elsewhere, session_id)
    eventually(lambda: not is_alive(first), elsewhere.seconds("LEASE_SECONDS") + 1)
    again = elsewhere.seconds("RESEND_AFTER_SECONDS") + 2 * elsewhere.seconds("HOUSEKEEPING_INTERVAL_SECONDS")
    second = eventually(lambda: running_as(ada.get(session_id), first), again + elsewhere.takeover_seconds)
    holds_for(lambda: runs(ada.get(session_id)), elsewhere.seconds("LEASE_SECONDS"), every=0.2)
    assert is_alive(second)
    assert ada.delete(session_id, "?wait=25").status == 200

    end = Reader(ada, session_id).finish()  # what is read is what the end says was printed
    assert how(end) == ("terminated", "requested")
    assert b"ran as %d\n" % second in ada.output(session_id)
    assert elsewhere.leftovers() == []


def ran_as(printed: bytes) -> int:
    """Return the pid in the first line, or 0."""
    line = printed.partition(b"\n")
    return int(line[0].removeprefix(b"ran as ")) if line[1] else 0


def running_as(shown: dict[str, Any], other_than: int) -> int:
    """Return the pid of a running session's process, or 0."""
    pid = int(shown["claude_process_id"] or 0)
    return pid if runs(shown) and pid != other_than else 0


def forget(service: Service, session_id: str) -> None:
    """Set a session back to what it was before its claim, and wipe what was stored since."""
    service.rows("DELETE FROM segments WHERE session_id = %s RETURNING 1", session_id)
    unclaimed = """
        UPDATE sessions SET worker = NULL, worker_name = NULL, claim = NULL, fence = fence - 1, claimed_at = NULL,
            status = 'initializing', pid = NULL, started_at = NULL, expires_at = NULL, last_seq = 0, output_bytes = 0
        WHERE id = %s RETURNING 1
    """
    assert service.rows(unclaimed, UUID(session_id)) == [(1,)]
