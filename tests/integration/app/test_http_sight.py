"""GET of one session: as it is in PostgreSQL at that moment, whoever wrote it, whatever was asked at the same time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from models.database import REST_SECONDS
from tests.integration.app.serving import Api, Gunicorn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.web import Web
    from tests.integration.app.holder import Holder

UNKNOWN = "01a20876-96f3-7641-a7dd-835fac400188"


@pytest.fixture
def others(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Iterator[Api]:
    """A second web process."""
    with httpx2.Client(base_url=gunicorns({**variables, "WORKER_NAME": "b"}).url, timeout=30) as client:
        yield Api(client)


def test_what_one_process_has_answered_every_process_knows(gevent: Api, others: Api, holder: Holder) -> None:
    for _ in range(5):
        session_id = gevent.create()
        assert others.get(f"/sessions/{session_id}").json()["queue_position"] >= 1
        run = holder.run(session_id)
        assert others.get(f"/sessions/{session_id}").json()["status"] == "active"
        assert gevent.delete(f"/sessions/{session_id}?wait=0").status_code == 202
        assert others.get(f"/sessions/{session_id}").json()["status"] == "terminating"
        run.end()
        ended = others.get(f"/sessions/{session_id}").json()
        assert (ended["status"], ended["exit_code"]) == ("terminated", 0)
        assert gevent.get(f"/sessions/{session_id}").json() == ended
        assert others.get(f"/sessions?limit=1&program={ended['program']}").json()[0] == ended


def test_an_emptied_redis_changes_nothing(api: Api, web: Web, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id)
    before = api.get(f"/sessions/{session_id}").json()
    web.redis.flushdb()

    assert api.get(f"/sessions/{session_id}").json() == before


def test_everybody_gets_what_he_asked_for_and_may_see(gevent: Api, holder: Holder) -> None:
    mine = [gevent.create(metadata={"n": n}) for n in range(10)]
    for session_id in mine[::2]:
        holder.run(session_id)

    def ask(number: int) -> bool:
        session_id = mine[number % 10]
        with httpx2.Client(base_url=gevent.client.base_url, timeout=30) as client:
            shown = Api(client).get(f"/sessions/{session_id}").json()
            hidden = Api(client, "bob-key").get(f"/sessions/{session_id}")
            unknown = Api(client).get(f"/sessions/{UNKNOWN}")
        right = (UUID(shown["session_id"]), shown["metadata"]) == (session_id, {"n": number % 10})
        return right and (hidden.status_code, unknown.status_code) == (404, 404)

    with ThreadPoolExecutor(25) as threads:
        assert all(threads.map(ask, range(100)))


def test_a_connection_that_the_server_ended_is_opened_again(api: Api, web: Web, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id)
    assert api.get(f"/sessions/{session_id}").status_code == 200
    with web.database.transaction() as tx:
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        tx.execute(text(f"SELECT pg_terminate_backend(pid) {others}")).all()

    assert [api.get(f"/sessions/{session_id}").status_code for _ in range(3)] == [200, 200, 200]
    time.sleep(REST_SECONDS)  # other web processes of these tests lost theirs, too: rested, they are asked first
