"""Every event gets to NATS, once, in order, whatever is killed meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from core.settings import load_settings
from jelmore.embedded import Nats, Postgres
from migrations.__main__ import upgrade
from tests.checks import eventually, holds_for, wait
from tests.leaks import KNOWN, refuse
from tests.mirrored import Consumer, Mirrored, Writers
from tests.service import FULL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: Final = 20_000 if FULL_LENGTH else 1_500
NATS_AWAY_SECONDS: Final = 60.0 if FULL_LENGTH else 3.0
PAUSE_SECONDS: Final = 0.03 if FULL_LENGTH else 0.004
KILLS: Final = 5 if FULL_LENGTH else 2
DRAINED_SECONDS: Final = 60.0
TAKEOVER_SECONDS: Final = 10.0


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrored]:
    home = tmp_path_factory.mktemp("mirrored")
    servers = tmp_path_factory.mktemp("servers")
    postgres, nats = Postgres(servers, fast=True), Nats(servers, fast=True)
    try:
        for server in (postgres, nats):
            server.launch()
        for server in (postgres, nats):
            server.wait_ready()
        upgrade(load_settings({"DATABASE_URL": postgres.url}).database_url)
        mirrored = Mirrored(home, load_settings({"DATABASE_URL": postgres.url}).database_url, nats, postgres)
        yield mirrored
        mirrored.stop()
        refuse([*KNOWN.in_home(home), *KNOWN.in_database(postgres.url)])
    finally:
        for server in (postgres, nats):
            server.stop()


@pytest.fixture(autouse=True)
def _no_mirror_is_left(plant: Mirrored) -> Iterator[None]:
    yield
    for member in plant.members:
        member.stop()


def test_a_consumer_sees_every_event_once_and_in_order_whatever_is_killed(plant: Mirrored) -> None:
    plant.mirror()
    plant.mirror()
    writers = Writers(plant, EVENTS, pause_seconds=PAUSE_SECONDS)
    consumer = Consumer(plant.nats.url)
    for _ in range(KILLS):
        wait(0.7)
        working = eventually(plant.leads, TAKEOVER_SECONDS)
        working.kill()
        plant.mirror()
    plant.nats.stop()
    wait(NATS_AWAY_SECONDS)
    plant.nats.start()
    plant.postgres.stop()
    plant.postgres.start()

    writers.join(300)
    eventually(lambda: plant.waiting() == 0, DRAINED_SECONDS, every=0.2)
    written = plant.written()
    eventually(lambda: len(consumer.got) >= sum(map(len, written.values())), DRAINED_SECONDS, every=0.2)
    consumer.close()
    assert consumer.by_session == written


def test_one_mirror_works_and_when_it_is_gone_or_stopped_another_does(plant: Mirrored) -> None:
    first = plant.mirror()
    eventually(lambda: plant.leads() is first)
    second = plant.mirror()
    holds_for(lambda: "this mirror works" not in second.said(), 2.5, every=0.1)

    first.signal(signal.SIGSTOP)
    try:
        plant.write({"n": 1})
        eventually(lambda: plant.waiting() == 0, TAKEOVER_SECONDS)
    finally:
        first.signal(signal.SIGCONT)
    assert "this mirror works" in second.said()

    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    plant.write({"n": 2})
    eventually(lambda: plant.waiting() == 0, TAKEOVER_SECONDS)
    assert first.alive
