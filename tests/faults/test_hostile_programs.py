"""Programs that take what they can get, or nothing at all: the worker lives, is no larger, and its other sessions answer."""

from __future__ import annotations

import hashlib
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.checks import eventually, how, is_alive, runs
from tests.client import Reader
from tests.latency import neighbour
from tests.programs.shell import lines
from tests.service import FULL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.latency import Neighbour
    from tests.service import Service

KIB, MIB = 1024, 1024 * 1024
PROGRAMS: Final = Path(__file__).parents[1] / "programs"
FLOOD_BYTES: Final = 1024 * MIB if FULL_LENGTH else 24 * MIB
READ_SECONDS: Final = 600 if FULL_LENGTH else 120
TAKEN: Final = 2048
"""MiB that a program wants, of those it may have (see conftest.py)."""
BOMB: Final = 1000
"""Forks: some times as many as a session may have processes."""
ZOMBIES: Final = 100
"""With as many orphans, which live a moment longer, fewer than a session may have processes."""
ASKED: Final = 50
"""Answers whose median is compared."""
AT_MOST: Final = 2.0
"""How many times as long an answer may take at the median."""


def python(name: str, *arguments: object) -> str:
    """Return a query that runs one of the programs beside these tests."""
    return " ".join(["exec", sys.executable, "-I", "-S", str(PROGRAMS / name), *map(str, arguments)])


@pytest.fixture
def worker_grows(service: Service, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], int]]:
    """Return how many KiB the worker has grown at most; say it in the end."""
    worker = service.worker("one")
    idle = worker.memory_kib("VmRSS")
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # forget the most it ever had
    yield lambda: worker.memory_kib("VmHWM") - idle
    with capsys.disabled():
        print(f"\n  worker: {idle // KIB} MiB idle, at most {worker.memory_kib('VmHWM') // KIB} MiB")


@pytest.fixture
def calm(
    service: Service, staffed: Service, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Return a function that asks a neighbour for as long as something goes on, and compares.

    Compared is with before, and with what another installation's worker, which has nothing to do, takes at the same time:
    what the machine is slow with is not the worker's fault.
    """
    with neighbour(service.ada) as other, neighbour(staffed.ada) as stranger:
        other.median(10)
        before = other.median(ASKED)

        def assert_calm(going_on: Callable[[], bool]) -> None:
            pairs = ask_while(other, stranger, going_on)
            during, strange = (sorted(took) for took in zip(*pairs, strict=True))
            middle, far, slow = statistics.median(during), statistics.median(strange), during[int(len(during) * 0.99)]
            with capsys.disabled():
                print(
                    f"\n  neighbour: median {before * 1000:.1f} ms before, {middle * 1000:.1f} ms meanwhile"
                    f" (99th {slow * 1000:.1f} ms, {len(during)} answers), elsewhere {far * 1000:.1f} ms meanwhile"
                )
            assert middle <= AT_MOST * max(before, far)

        yield assert_calm
        left = service.ada.get(other.session_id)
        assert runs(left), how(left)


def ask_while(other: Neighbour, stranger: Neighbour, going_on: Callable[[], bool]) -> list[tuple[float, float]]:
    """Ask both in turn until it is over, at least three times."""
    took: list[tuple[float, float]] = []
    while len(took) < 3 or going_on():
        took.append((other.ask(), stranger.ask()))
    return took


@pytest.mark.case(36)
@pytest.mark.timeout(300)
def test_a_flood_leaves_the_worker_small_and_its_neighbours_quick_and_every_byte_arrives(
    service: Service, calm: Callable[..., None], worker_grows: Callable[[], int]
) -> None:
    line = b"a line like any other\n"
    session_id = service.ada.create(f"yes '{line.decode().strip()}' | head -c {FLOOD_BYTES}")
    eventually(lambda: runs(service.ada.get(session_id)))

    calm(lambda: runs(service.ada.get(session_id)))

    end = Reader(service.ada, session_id, limit_seconds=READ_SECONDS).finish()
    assert (how(end), end["output_bytes"]) == (("completed", "exited"), FLOOD_BYTES)
    assert (
        end["output_sha256"]
        == hashlib.sha256(line * (FLOOD_BYTES // len(line)) + line[: FLOOD_BYTES % len(line)]).hexdigest()
    )
    assert worker_grows() < 150 * KIB


@pytest.mark.case(27)
def test_a_fork_bomb_ends_by_the_limit_of_processes_and_takes_nobody_with_it(
    service: Service, calm: Callable[..., None], worker_grows: Callable[[], int]
) -> None:
    worker = service.worker("one")
    session_id = service.ada.create(python("fork_bomb.py", BOMB))
    reader = Reader(service.ada, session_id, limit_seconds=60)

    calm(lambda: reader.end is None)

    assert how(reader.finish()) == ("failed", "process_limit")
    assert [found.pid for found in service.leftovers("one") if found.tag == 0] == []
    assert service.ada.output(session_id) == b"forking\n"
    assert worker.alive
    assert worker_grows() < 50 * KIB


@pytest.mark.case(29)
def test_a_program_that_takes_all_memory_fails_alone(service: Service) -> None:
    hog = service.ada.create(python("hog.py", TAKEN))
    killed = service.ada.create("kill -KILL $$")  # what the kernel does where memory is short
    reader = Reader(service.ada, hog)

    end = reader.finish()
    assert (how(end), end["exit_code"]) == (("failed", "exit_code"), 3)
    assert service.ada.output(hog) == b"taking\nno more memory\n"
    end = service.ada.events(killed)[-1].data
    assert (how(end), end["exit_signal"]) == (("failed", "signal"), "KILL")
    assert service.worker("one").alive


@pytest.mark.case(36)
def test_bytes_that_come_one_by_one_are_gathered_into_few_entries(service: Service, calm: Callable[..., None]) -> None:
    size = 400_000
    session_id = service.ada.create(python("byte_by_byte.py", size))
    reader = Reader(service.ada, session_id, limit_seconds=60)

    calm(lambda: reader.end is None)

    end = reader.finish()
    assert (how(end), end["output_bytes"]) == (("completed", "exited"), size)
    assert service.ada.output(session_id) == lines(size // 5)[:size]
    assert reader.last_id < size / 20


@pytest.mark.case(36)
def test_megabytes_without_a_newline_arrive(service: Service) -> None:
    size = 8 * MIB
    session_id = service.ada.create(f"head -c {size} /dev/zero | tr '\\0' x")
    reader = Reader(service.ada, session_id)

    assert reader.finish()["output_bytes"] == size
    assert service.ada.output(session_id) == b"x" * size


@pytest.mark.case(28)
def test_orphans_that_ended_are_reaped_and_a_programs_own_children_are_left_to_it(service: Service) -> None:
    worker = service.worker("one")
    keeper = service.keeper_of(worker)
    session_id = service.ada.create(python("zombies.py", ZOMBIES))
    with service.ada.follow(session_id, "?events=output") as stream:
        assert stream.until("output")[-1].content == b"left\n"

    eventually(lambda: zombies_of(keeper) == [])
    assert runs(service.ada.get(session_id))
    main = int(service.ada.get(session_id)["claude_process_id"])
    eventually(lambda: len(zombies_of(main)) == ZOMBIES)  # its own it must reap itself
    service.ada.input(session_id, "go")
    assert how(service.ada.events(session_id)[-1].data) == ("completed", "exited")
    eventually(lambda: not is_alive(main) and zombies_of(keeper) == [])


def zombies_of(pid: int) -> list[int]:
    """Return the children of a process that ended and were not reaped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if not is_alive(int(child))]


@pytest.mark.case(31)
def test_input_to_a_program_that_closed_its_stdin_is_refused_and_told(service: Service) -> None:
    session_id = service.ada.create(
        "exec 0<&- 2>/dev/null; echo closed; trap 'echo bye; exit' TERM; while :; do sleep 0.1; done"
    )
    with service.ada.follow(session_id, "?events=output") as stream:
        stream.until("output")
        assert service.ada.input(session_id, "anybody there?").status == 200

        def fates() -> list[tuple[object, ...]]:
            return service.rows("SELECT state, reason FROM inputs WHERE session_id = %s", session_id)

        eventually(lambda: fates() == [("failed", "stdin_closed")])
    assert runs(service.ada.get(session_id))
    assert service.worker("one").alive
    service.ada.delete(session_id, "?wait=25")
    assert service.ada.output(session_id) == b"closed\nbye\n"


@pytest.mark.case(33)
def test_a_program_that_never_reads_leaves_the_worker_small_and_is_ended_like_any_other(
    service: Service, calm: Callable[..., None], worker_grows: Callable[[], int]
) -> None:
    ada = service.ada
    session_id = ada.create("echo deaf; sleep 1000")
    left = 60  # of 60 kB: the pipe holds one, the worker takes a MiB

    def still_sending() -> bool:
        nonlocal left
        for _ in range(5):
            assert ada.input(session_id, "x" * 60_000).status == 200
        left -= 5
        return left > 0

    calm(still_sending)

    assert worker_grows() < 50 * KIB
    assert ada.delete(session_id, "?wait=25").status == 200
    states = service.rows("SELECT DISTINCT state, reason FROM inputs WHERE session_id = %s ORDER BY 1", session_id)
    assert {state for state, _ in states} == {"written", "failed"}
    assert {reason for state, reason in states if state == "failed"} <= {"stdin_closed", "session_ended"}


@pytest.mark.case(26)
def test_a_daemon_that_holds_the_output_neither_keeps_its_session_nor_outlives_it(service: Service) -> None:
    held = (
        "(setsid sh -c 'trap \"\" TERM; (echo $$ from the daemon; sleep 1000) & sleep 1000' &) ; sleep 0.3; echo gone"
    )
    session_id = service.ada.create(held)
    end = service.ada.events(session_id)[-1].data
    printed = service.ada.output(session_id)

    assert how(end) == ("completed", "exited")
    assert printed.endswith(b" from the daemon\ngone\n")
    assert not is_alive(int(printed.split()[0]))
    assert service.leftovers() == []
