"""`make soak`: a whole installation under load, everything killed and stopped at random, then every byte and every input compared.

Prints its seed first: the same seed makes the same choices, if not the same moments. Exit code 1 if any law was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from runner.marks import kill
from tests.checks import eventually
from tests.client import SESSIONS, Client
from tests.service import ADA
from tests.soak.checker import Findings, check
from tests.soak.lives import Life, World, gather
from tests.soak.plant import Chance, Plant, planted
from tests.soak.readers import Doors
from tests.soak.stories import FINAL, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY_SECONDS: Final = 2.0
SETTLING_SECONDS: Final = 120.0
GONE_SECONDS: Final = 10.0
WHOLE_SECONDS: Final = 45.0
"""Celery finds a broker that was away again within half a minute."""
WHOLE: Final = "whole"
SHOWN_VIOLATIONS: Final = 40
STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run a soak; keep its logs and records only if something was wrong."""
    options = _options()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    many = f"{options.sessions} sessions, {options.readers} readers"
    print(f"soak: seed {seed}, {options.seconds:g} s, {many}", flush=True)
    for number in STOPPING:
        signal.signal(number, _stop)
    home = Path(tempfile.mkdtemp(prefix="jelmore-soak-"))
    passed = False
    try:
        passed = soak(home, seed, options)
    finally:
        if passed and not options.keep:
            shutil.rmtree(home, ignore_errors=True)
        else:
            print(f"Logs and records: {home}")
    return 0 if passed else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long faults are made (120)")
    parser.add_argument("--sessions", type=int, default=30, help="how many run at a time (30)")
    parser.add_argument("--readers", type=int, default=200, help="how many follow them, in all (200)")
    parser.add_argument("--seed", type=int, help="decides every choice (random)")
    parser.add_argument("--keep", action="store_true", help="keep logs and records though nothing was wrong")
    return parser.parse_args()


def _stop(*_: object) -> NoReturn:
    """Leave through every `finally`, undisturbed by whoever asks again."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(130)


def soak(home: Path, seed: int, options: argparse.Namespace) -> bool:
    """Return whether every law held."""
    seconds, sessions = options.seconds, options.sessions
    choice = random.Random(seed)
    records = home / "records"
    records.mkdir()
    with planted(home, sessions) as plant:
        doors = Doors(plant.ports, ADA)
        each = max(1, round(options.readers / sessions))
        world = World(doors, records, time.monotonic() + seconds, readers=each)
        lives = [Life(number, choice.getrandbits(32), world) for number in range(sessions)]
        for life in lives:
            life.start()
        Chance(plant, choice, lambda line: print(line, flush=True)).run(seconds, EVERY_SECONDS)
        print("  healed; the sessions are asked to end", flush=True)
        problems = _settle(plant, world, lives) + _not_whole(plant)
        ids, rows = _kept(plant)
        gather(world, Client(plant.ports[0], ADA), ids, rows)
        found = check(world.stories, plant.noted)
        found.violations += problems + doors.oddities + _strangers(world, ids)
        _report(plant, world, found, seed)
        return not found.violations


def _settle(plant: Plant, world: World, lives: Sequence[Life]) -> list[str]:
    """Wait until every client has seen its sessions' ends and no session lives; end what is left. Return what went wrong."""
    problems = []
    give_up = time.monotonic() + SETTLING_SECONDS
    for life in lives:
        life.join(max(0.0, give_up - time.monotonic()))
    problems += [life.failure for life in lives if life.failure]
    problems += [f"client {number} did not come to its end" for number, life in enumerate(lives) if life.is_alive()]
    world.deadline.set()
    _end_the_unknown(plant, world)
    try:
        eventually(lambda: not _living(plant), SETTLING_SECONDS / 2, every=0.5)
    except AssertionError:
        problems.append(f"these sessions never ended: {', '.join(_living(plant))}")
    try:
        eventually(lambda: not plant.service.leftovers(), GONE_SECONDS, every=0.5)
    except AssertionError:
        left = plant.service.leftovers()
        problems.append(f"processes of ended sessions live: {left}")
        for process in left:
            kill(process)
    return problems


def _end_the_unknown(plant: Plant, world: World) -> None:
    """Ask for the end of sessions whose creation nobody heard of."""
    choice = random.Random(0)
    for token, session_id in plant.service.rows(
        "SELECT metadata->>'soak', id::text FROM sessions WHERE ended_at IS NULL"
    ):
        for story in world.stories:
            story.deleted = story.deleted or story.token == token
        world.doors.ask(choice, "DELETE", f"{SESSIONS}/{session_id}?wait=0")


def _not_whole(plant: Plant) -> list[str]:
    """Return what does not work though everything runs again: each web process must start a session and show its end."""
    problems = []
    for port in plant.ports:
        try:
            _runs_a_session(Client(port, ADA))
        except (AssertionError, OSError) as why:
            problems.append(f"after the soak, at port {port}: {why!r}")
    return problems


def _runs_a_session(client: Client) -> None:
    session_id = client.create("echo whole", metadata={"soak": WHOLE})
    eventually(lambda: client.status(session_id) == "completed", WHOLE_SECONDS, every=0.2)
    assert client.output(session_id) == b"whole\n"


def _living(plant: Plant) -> list[str]:
    wanted = "SELECT id::text, status FROM sessions WHERE NOT status = ANY(%s)"
    return [f"{session_id} {status}" for session_id, status in plant.service.rows(wanted, sorted(FINAL))]


def _kept(plant: Plant) -> tuple[dict[str, list[str]], dict[str, list[Row]]]:
    """Return the sessions of each token, and the mailbox of each session."""
    ids: dict[str, list[str]] = {}
    for token, session_id in plant.service.rows("SELECT metadata->>'soak', id::text FROM sessions"):
        ids.setdefault(token, []).append(session_id)
    rows: dict[str, list[Row]] = {}
    wanted = "SELECT session_id::text, input_seq, kind, body, state FROM inputs ORDER BY session_id, input_seq"
    for session_id, input_seq, kind, body, state in plant.service.rows(wanted):
        text = bytes(body).decode().rstrip("\r\n")
        rows.setdefault(session_id, []).append(Row(input_seq, kind, text, state))
    return ids, rows


def _strangers(world: World, ids: dict[str, list[str]]) -> list[str]:
    known = {WHOLE, *(story.token for story in world.stories)}
    return [f"a session nobody asked for: {token}" for token in ids if token not in known]


def _report(plant: Plant, world: World, found: Findings, seed: int) -> None:
    stories = world.stories
    ends = Counter("/".join(story.how) if story.shown else "not created" for story in stories)
    sent = Counter(sent.outcome for story in stories for sent in story.sent)
    faults = Counter(f"{fault.what} {fault.whom}" for fault in plant.noted)
    connections = sum(seen.connections for story in stories for seen in story.readers)
    print(f"\nsessions   {len(stories)}: " + _counted(ends))
    print(f"output     {sum(len(story.output) for story in stories):,} bytes, {connections} connections of readers")
    print(f"inputs     {_counted(sent)}; {sum(len(run.heard) for story in stories for run in story.runs)} heard")
    print(f"faults     {len(plant.noted)}: {_counted(faults)}")
    print(f"left by themselves  {_counted(Counter(plant.left)) or 'none'}")
    lost = sum(loss.size for loss in found.losses)
    print(f"lost with a worker  {lost:,} bytes of {len(found.losses)} sessions (printed, and not yet appended)")
    for loss in found.losses:
        print(f"  {loss.size:>8,}  {loss.reason}  {loss.name}")
    if not found.violations:
        print(f"No violation. (seed {seed})")
        return
    print(f"{len(found.violations)} VIOLATIONS (seed {seed}):")
    for violation in found.violations[:SHOWN_VIOLATIONS]:
        print(f"  {violation}")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


if __name__ == "__main__":
    sys.exit(main())
