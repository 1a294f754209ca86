"""Thousands of followers of one process, some of whom read nothing: everybody gets everything, and nobody pays for another."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from core import vital
from tests.checks import eventually
from tests.crowd import Crowd, descriptors, ids
from tests.processes import memory_kib, worker_of
from tests.service import FULL_LENGTH
from tests.stalls import stalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api, Gunicorn

MANY = 4000 if FULL_LENGTH else 2000
CUT_OFF = MANY if FULL_LENGTH else 400
STALLED = 20
MOST_RETURNS = 5
KIB = 1024


def open_streams(api: Api) -> int:
    stats = api.client.get("/health").json()["infrastructure"]["websocket_manager"]["stats"]
    return int(stats["total_connections"])


def whole_log(api: Api, session_id: object) -> bytes:
    """Return the log as somebody sees it who comes when all is over."""
    with Crowd(session_id, 1) as late:
        late.open(int(str(api.client.base_url).rsplit(":", 1)[1].rstrip("/")))
        late.read(late.are_gone)
        return bytes(late.all[0].log)


def test_thousands_follow_in_little_memory_and_health_answers(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    """As many as said where as many files may be open, else as many as may. More than there are `worker_connections`."""
    many = descriptors(MANY)
    served, api = serve(MAX_STREAMS=str(many), WORKER_CONNECTIONS="200")
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, many) as crowd:
        crowd.open(served.port, crowd.all[:200])  # what the first ones load is nobody's own
        before = memory_kib(worker_of(served.process.pid))
        crowd.open(served.port)
        assert {one.status for one in crowd.all} == {200}
        assert open_streams(api) == many
        each = (memory_kib(worker_of(served.process.pid)) - before) / (many - 200)
        assert each <= 4.0, f"{each:.2f} kB each"

        refused = api.get(f"/sessions/{session_id}/stream")
        assert (refused.status_code, refused.json()["error_code"]) == (503, "TOO_MANY_STREAMS")
        for number in range(20):
            run.write(b"%d " % number * 20)
            assert api.client.get("/health").status_code == 200
            assert api.client.get("/health/live").status_code == 200
        run.end()
        crowd.read(crowd.are_gone)
        assert crowd.logs() == {whole_log(api, session_id)}
        assert list(ids(bytes(crowd.all[0].log))) == list(range(1, 23))
    eventually(lambda: open_streams(api) == 0)


def test_who_reads_nothing_delays_nobody_costs_no_more_than_its_cap_and_misses_nothing(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve(RING_BYTES=str(256 * KIB))
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, 5 * STALLED) as crowd:
        stalled, healthy = crowd.all[:STALLED], crowd.all[STALLED:]
        crowd.open(served.port, stalled, buffer_bytes=4096)
        crowd.open(served.port)
        crowd.stall(stalled)
        before = memory_kib(worker_of(served.process.pid))
        for number in range(1, 129):  # 8 MiB: far more than all buffers of the stalled ones
            run.write(b"%08d" % number * 8 * KIB)
            if number % 8 == 0:
                crowd.read(crowd.reached(number, healthy))
        grown = memory_kib(worker_of(served.process.pid)) - before
        # A look at the log (256 KiB, a little more as JSON) for each, and the ring; not the 8 MiB each of them has missed.
        assert grown < 512 * STALLED + 8 * KIB, f"{grown} KiB"
        assert open_streams(api) == len(crowd.all)

        crowd.go_on(stalled[1:])
        crowd.drop(stalled[:1])  # and one resumes on a new connection
        stalled[0].is_reading = True
        crowd.open(served.port, stalled[:1])
        run.end()
        crowd.read(crowd.are_gone)
        assert crowd.logs() == {whole_log(api, session_id)}


def test_who_takes_nothing_for_long_is_closed_on_and_resumes(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve(FOLLOWER_TIMEOUT_SECONDS="0.5")
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, 3) as crowd:
        crowd.open(served.port, buffer_bytes=4096)
        crowd.stall(crowd.all[:1])
        for number in range(64):
            run.write(b"%08d" % number * 8 * KIB)
        crowd.read(crowd.reached(64, crowd.all[1:]))
        eventually(lambda: open_streams(api) == 2)
        (closed,) = [line for line in served.lines("stream closed") if line["ended_by"] == "stalled"]
        assert closed["bytes"] > 0

        crowd.go_on(crowd.all[:1])
        crowd.read(lambda: not crowd.all[0].is_open)
        run.end()
        for _ in range(MOST_RETURNS):  # half a second passes quickly here: any of them may be closed on again
            crowd.open(served.port, crowd.unfinished())
            crowd.read(crowd.are_gone)
        assert crowd.logs() == {whole_log(api, session_id)}


def test_a_process_killed_with_many_followers_is_replaced_by_another_without_a_hole(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    """kill -9 of one of two web processes: its followers resume at the other, which stays within its limits."""
    many = descriptors(2 * CUT_OFF) // 2
    (first, api), (second, other) = serve(MAX_STREAMS=str(many)), serve(MAX_STREAMS=str(many))
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, many) as crowd:
        settled = crowd.all[: many // 20]
        crowd.open(second.port, settled)
        crowd.open(first.port)
        before = memory_kib(worker_of(second.process.pid))
        for number in range(50):
            run.write(b"before %d\n" % number)
        crowd.read(crowd.reached(25))
        os.killpg(first.process.pid, signal.SIGKILL)
        for number in range(50):
            run.write(b"meanwhile %d\n" % number)
        crowd.read(lambda: sum(one.is_open for one in crowd.all) == len(settled))
        crowd.open(second.port)
        for number in range(50):
            run.write(b"after %d\n" % number)
        crowd.read(crowd.reached(150))
        assert open_streams(other) == many
        assert memory_kib(worker_of(second.process.pid)) - before < 4 * many + 32 * KIB
        run.end()
        crowd.read(crowd.are_gone)
        assert crowd.logs() == {whole_log(other, session_id)}
    assert stalls(second.lines(vital.STALLED)) == []


def test_a_process_that_leaves_says_so_and_its_followers_go_on_elsewhere(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    (first, api), (second, other) = serve(), serve()
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, 300) as crowd:
        crowd.open(first.port)
        run.write(b"before")
        crowd.read(crowd.reached(1))
        first.process.send_signal(signal.SIGTERM)
        crowd.read(crowd.are_gone)
        assert all(b"retry: 2000\n: the server is going" in one.words for one in crowd.all)
        assert first.process.wait(10) == 0
        ended = first.lines("stream closed")
        assert [line["ended_by"] for line in ended] == ["leaving"] * 300
        run.write(b"meanwhile")
        crowd.open(second.port)
        run.end()
        crowd.read(crowd.are_gone)
        assert crowd.logs() == {whole_log(other, session_id)}


def test_the_log_says_how_long_a_stream_was_how_much_and_why_it_ended(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve()
    session_id = api.create()
    run = holder.run(session_id)
    with Crowd(session_id, 2) as crowd:
        crowd.open(served.port)
        run.write(b"x" * 5000)
        crowd.read(crowd.reached(1))
        crowd.drop(crowd.all[:1])
        eventually(lambda: len(served.lines("stream closed")) == 1)
        time.sleep(0.2)
        run.end()
        crowd.read(lambda: not crowd.all[1].is_open)
    eventually(lambda: len(served.lines("stream closed")) == 2)
    gone, ended = served.lines("stream closed")
    assert (gone["ended_by"], ended["ended_by"]) == ("client", "end")
    assert 5000 < gone["bytes"] < ended["bytes"] < 8000
    assert 0 < gone["seconds"] <= ended["seconds"]
    for line in (gone, ended):
        assert (line["key"], line["address"], line["transport"]) == ("ada", "127.0.0.1", "sse")
        assert line["path"] == f"/api/v1/sessions/{session_id}/stream"
    assert "ada-key" not in served.log.read_text()
