"""GET /stats: one's own figures, to administrators all, over every web process."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from app.census import KEPT_SECONDS, WRITE_SECONDS, Census
from app.open_streams import OpenStreams
from core.clock import SystemClock
from core.ids import uuid7
from models.tables import Session
from streams import keys

if TYPE_CHECKING:
    from app.web import Web
    from jelmore.embedded import Valkey
    from tests.integration.app.serving import Api


def stats(api: Api, **options: Any) -> dict[str, Any]:
    answer = api.get("/stats", **options)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_the_shape_is_that_of_the_first_description_and_more(api: Api) -> None:
    shown = stats(api)

    assert [*shown][:4] == ["service", "version", "timestamp", "uptime_seconds"]
    assert shown["session_stats"]["monitoring_interval_seconds"] == 30
    assert api.get("/stats").text.count('"cleanup_interval_seconds":300,') == 1  # not 300.0
    assert (shown["workers"]["alive"], shown["workers"]["slots"]) == (0, 0)
    assert {name for name, value in shown.items() if isinstance(value, dict)} == {
        "session_stats",
        "websocket_stats",
        "queue",
        "workers",
        "settings",
    }


def test_figures_are_ones_own_and_to_administrators_all(api: Api) -> None:
    bob, root = {"Authorization": "Bearer bob-key"}, {"Authorization": "Bearer root-key"}
    before, bobs, everybodys = stats(api), stats(api, headers=bob), stats(api, headers=root)
    api.create()
    after = stats(api)

    assert after["session_stats"]["active_sessions_count"] == before["session_stats"]["active_sessions_count"] + 1
    assert (
        after["session_stats"]["by_status"]["initializing"] == before["session_stats"]["by_status"]["initializing"] + 1
    )
    assert after["queue"]["waiting"] == before["queue"]["waiting"] + 1
    assert after["queue"]["oldest_seconds"] >= 0
    assert stats(api, headers=bob)["session_stats"] == bobs["session_stats"]
    count = everybodys["session_stats"]["active_sessions_count"]
    assert stats(api, headers=root)["session_stats"]["active_sessions_count"] == count + 1


HELD: Final = ExitStack()
"""What is never closed."""


def opened(count: int, owner: str, session: Session | None = None) -> OpenStreams:
    streams = OpenStreams(99)
    for _ in range(count):
        HELD.enter_context(streams.place(session or Session(id=uuid7(), owner=owner)))
    return streams


def names(web: Web) -> list[UUID]:
    return [UUID(str(name, "ascii")) for name in web.redis.smembers(keys.WEBS) if isinstance(name, bytes)]


def test_streams_are_counted_over_all_processes_and_sessions_once(web: Web) -> None:
    web.redis.delete(keys.WEBS)
    shared = Session(id=uuid7(), owner="ada")
    here = Census(web.redis, opened(2, "ada", shared), SystemClock())
    there = Census(web.redis, opened(3, "ada", shared), SystemClock())
    elsewhere = Census(web.redis, opened(5, "bob"), SystemClock())
    for census in (here, there, elsewhere):
        census.write()

    for census in (here, there, elsewhere):
        adas, everybodys = census.read("ada"), census.read(None)
        assert (adas.streams, adas.sessions, adas.processes, adas.complete) == (5, 1, 3, True)
        assert (everybodys.streams, everybodys.sessions) == (10, 6)
    assert here.read("nobody").streams == 0


def test_a_process_that_is_gone_is_forgotten_and_what_is_open_here_is_always_counted(web: Web) -> None:
    web.redis.delete(keys.WEBS)
    gone = Census(web.redis, opened(3, "ada"), SystemClock())
    gone.write()
    (name,) = names(web)
    assert 0 < web.redis.ttl(keys.web(name)) <= KEPT_SECONDS
    assert WRITE_SECONDS < KEPT_SECONDS / 2
    web.redis.delete(keys.web(name))

    here = Census(web.redis, opened(1, "ada"), SystemClock())
    assert (here.read(None).streams, here.read(None).processes) == (1, 1)
    assert web.redis.scard(keys.WEBS) == 0


@pytest.mark.parametrize("api", ["gevent"], indirect=True)
def test_without_redis_this_process_counts_alone_and_says_so(api: Api, valkey: Valkey) -> None:
    valkey.pause()
    try:
        shown = stats(api)
    finally:
        valkey.resume()

    assert (shown["websocket_stats"]["complete"], shown["websocket_stats"]["processes"]) == (False, 1)
