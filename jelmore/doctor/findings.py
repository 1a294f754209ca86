"""What facts from inside mean. Pure: every sentence that `jelmore doctor` says of servers and processes is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jelmore.doctor.facts import Inside, Server, Worker

State = Literal["well", "wrong", "note"]

CLOCK_SECONDS: Final = 5.0
"""By more than this a clock is wrong: machines that are told the time differ by milliseconds."""
MIRROR_SILENT_SECONDS: Final = 20.0
DELIVERER_SILENT_SECONDS: Final = 30.0
HOUSEKEEPING_SILENT_SECONDS: Final = 30.0
BEHIND_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `does`: what to do about it. A note is worth knowing and wrong for nobody."""

    about: str
    state: State
    says: str
    does: str = ""


def well(about: str, says: str) -> Finding:
    """Return that nothing is wrong."""
    return Finding(about, "well", says)


def wrong(about: str, says: str, does: str = "") -> Finding:
    """Return that something is wrong."""
    return Finding(about, "wrong", says, does)


def note(about: str, says: str, does: str = "") -> Finding:
    """Return something to know."""
    return Finding(about, "note", says, does)


def of_inside(found: Inside) -> Iterator[Finding]:
    """Say what was found from inside."""
    if found.faults:
        for fault in found.faults:
            yield wrong("configuration", fault, "Correct the environment; nothing else was looked at.")
        return
    yield well("configuration", "The configuration is valid.")
    yield from _servers(found)
    yield from _migrations(found)
    if found.workers is not None:
        yield from _workers(found, found.workers)
        yield from _housekeeping(found)
        yield from _mirror(found)
        yield from _webhooks(found)


# Servers.


def _servers(found: Inside) -> Iterator[Finding]:
    if found.postgres is not None:
        yield from _server("PostgreSQL", found.postgres)
        yield from clock("PostgreSQL's", found.postgres.clock_ahead_seconds)
    if found.refused is not None:
        yield wrong(
            "PostgreSQL",
            f"PostgreSQL refuses what the service has to ask it: {found.refused}.",
            "Give the user in DATABASE_URL the tables, or run the migrations as that user.",
        )
    if found.redis is not None:
        yield from _server("Redis", found.redis)
        yield from _redis(found.redis)
    if found.broker is not None:
        yield from _server("broker", found.broker)
    if found.nats is not None:
        yield from _server("NATS", found.nats)
    elif found.redis is not None:
        yield note("NATS", "NATS_URL is not set: events are not copied to NATS, everything else works.")


def _server(name: str, server: Server) -> Iterator[Finding]:
    if server.trouble is not None:
        said = f" It said: {server.words}" if server.words else ""
        yield wrong(name, f"{_capital(server.trouble)}.", f"Start it, or correct its address.{said}")
    else:
        version = server.version or ""
        shown = version if version.startswith(("Redis", "Valkey")) else f"{name} {version}"
        yield well(name, f"{_capital(shown.strip())} answers.")


def _redis(server: Server) -> Iterator[Finding]:
    if server.policy not in (None, "noeviction"):
        yield wrong(
            "Redis",
            f"Redis evicts keys when it is full (maxmemory-policy {server.policy}): queues would be lost.",
            "Set maxmemory-policy noeviction.",
        )
    if server.cluster:
        yield wrong("Redis", "REDIS_URL points to a Redis Cluster, which Jelmore cannot use.", "Use a single server.")


def clock(whose: str, ahead_seconds: float | None) -> Iterator[Finding]:
    """Say how far this machine's clock is from another."""
    if ahead_seconds is None:
        return
    if abs(ahead_seconds) > CLOCK_SECONDS:
        yield clock_wrong("This machine's clock", whose, ahead_seconds)
    else:
        yield well("clock", f"This machine's clock and {whose} agree.")


def clock_wrong(one: str, other: str, ahead_seconds: float) -> Finding:
    """Return that two clocks differ."""
    way = "ahead of" if ahead_seconds > 0 else "behind"
    return wrong(
        "clock",
        f"{one} is {_duration(abs(ahead_seconds))} {way} {other}.",
        "Set it by NTP. Sessions and leases do not depend on it; times shown, tickets and keys that expire do.",
    )


# The database's state and the processes.


def _migrations(found: Inside) -> Iterator[Finding]:
    migrations = found.migrations
    if migrations is None:
        return
    if migrations.pending:
        yield pending(migrations.pending)
    elif migrations.at != migrations.newest:
        yield note("migrations", f"The database is at {migrations.at}, which is newer than this code knows.")
    else:
        yield well("migrations", f"The database is at {migrations.at}, the newest migration.")


def pending(migrations: list[str]) -> Finding:
    """Return that the database is behind the code."""
    listed = ", ".join(migrations)
    what = "A migration is pending" if len(migrations) == 1 else f"{len(migrations)} migrations are pending"
    return wrong("migrations", f"{what}: {listed}.", "Run `python -m migrations upgrade` (the Procfile's `release`).")


def no_worker() -> Finding:
    """Return that nobody runs sessions."""
    return wrong(
        "workers",
        "No worker is alive: sessions wait as `initializing`.",
        "Start one (`python -m tasks.worker`); if one runs, its log says why it is not heard.",
    )


def _workers(found: Inside, workers: list[Worker]) -> Iterator[Finding]:
    alive = [worker for worker in workers if worker.silent_seconds <= found.lease_seconds]
    if not alive:
        yield no_worker()
        return
    old = [worker for worker in alive if worker.build != found.build]
    for worker in old:
        yield wrong(
            "workers",
            f"Worker {worker.name} on {worker.host} runs other code ({worker.build}) than is installed here"
            f" ({found.build}).",
            "Restart it with this code, unless a deployment is under way or this machine is the old one.",
        )
    if all(worker.draining for worker in alive):
        yield wrong("workers", "Every worker is leaving and takes no session.", "Start another one.")
    elif not old:
        slots = sum(worker.slots for worker in alive)
        yield well("workers", f"{_count(len(alive), 'worker')} with {_count(slots, 'slot')}, with this code.")


def _housekeeping(found: Inside) -> Iterator[Finding]:
    silent = found.housekeeping_silent_seconds
    if silent is None or silent > HOUSEKEEPING_SILENT_SECONDS:
        since = "has never run" if silent is None else f"has not run for {_duration(silent)}"
        yield wrong(
            "beat",
            f"Housekeeping {since}: no lost worker is noticed, and nothing is sent again.",
            "Start `python -m tasks.beat`.",
        )
    else:
        yield well("beat", "Housekeeping runs.")


def _mirror(found: Inside) -> Iterator[Finding]:
    if not found.mirrored:
        return
    mirror = found.mirror
    if mirror is None or mirror.silent_seconds > MIRROR_SILENT_SECONDS:
        yield wrong("mirror", "No mirror is running: events wait in PostgreSQL.", "Start `python -m streams.mirror`.")
    elif mirror.trouble is not None:
        yield wrong("mirror", f"The mirror says: {mirror.trouble}.", "Nothing is lost: events wait in PostgreSQL.")
    elif found.events_waiting_seconds > BEHIND_SECONDS:
        behind = _duration(found.events_waiting_seconds)
        yield wrong("mirror", f"The mirror is {behind} behind.", "Its log and docs/operations.md say why that may be.")
    else:
        yield well("mirror", "The mirror runs.")


def _webhooks(found: Inside) -> Iterator[Finding]:
    webhooks = found.webhooks
    if not (webhooks.active or webhooks.waiting):
        return
    if not 0 <= webhooks.silent_seconds <= DELIVERER_SILENT_SECONDS:
        yield wrong("webhooks", "Nobody delivers to webhooks: deliveries wait.", "Start `python -m streams.webhooks`.")
    else:
        yield well("webhooks", "Webhooks are delivered to.")


# Words.


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"
