"""A key that is revoked, expires or is rotated away: what is open ends within half a minute, what is asked anew is refused."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx2
import pytest
import websocket

from app.key_watch import CUT_SECONDS, LOOK_SECONDS, KeyWatch
from app.stored_keys import KEPT_SECONDS, StoredKeys
from core.errors import InvalidApiKey
from tests.checks import eventually
from tests.clock import FakeClock
from tests.integration.app.reading import parse
from tests.integration.app.serving import Api
from tests.integration.app.talking import talking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.web import Web
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Gunicorn

SOON_SECONDS: Final = LOOK_SECONDS + 5
"""A look, a heartbeat (they come often here), and a busy machine."""
OVER: Final = 4401


@pytest.fixture
def there(variables: dict[str, str], gunicorns: Callable[[dict[str, str]], Gunicorn]) -> Iterator[Api]:
    """Another web process than the one that revokes."""
    other = gunicorns({**variables, "MAX_STREAMS": "3999"})
    with httpx2.Client(base_url=other.url, timeout=30) as client:
        yield Api(client)


def made(root: Api, name: str, *permissions: str, **more: Any) -> tuple[str, str]:
    """A key of ada's: its id and the key."""
    body = {"name": name, "owner": "ada", "permissions": list(permissions or ("read", "write")), **more}
    answer = root.as_("root-key").post("/keys", body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["key"]


class Open:
    """A stream or a socket that is read in a thread until it ends: how, and how long after it was begun to wait."""

    def __init__(self, read: Callable[[Open], None]) -> None:
        self.begun = False
        self.how: Any = None
        self._thread = Thread(target=self._read, args=(read,), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + SOON_SECONDS
        while not self.begun and time.monotonic() < deadline:
            self._thread.join(0.02)
        assert self.begun

    def _read(self, read: Callable[[Open], None]) -> None:
        with suppress(httpx2.TransportError, websocket.WebSocketException, OSError):  # it is left open at a test's end
            read(self)

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def end(self, seconds: float = SOON_SECONDS) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"still open after {seconds} s"
        return self.how


def stream(api: Api, session_id: UUID, query: str = "", **headers: str) -> Open:
    def read(opened: Open) -> None:
        path = f"/api/v1/sessions/{session_id}/stream{query}"
        with api.client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
            for event in parse(answer.iter_lines()):
                opened.begun = True
                opened.how = (event.event, event.data.get("error_code"))

    return Open(read)


def web_socket(api: Api, session_id: UUID, query: str = "", **options: Any) -> Open:
    def read(opened: Open) -> None:
        with talking(api, session_id, query, **options) as talk:
            opened.begun = True
            talk.rest()
            opened.how = talk.code

    return Open(read)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ticket(api: Api, key: str, session_id: UUID, *scopes: str) -> str:
    answer = api.as_(key).post(f"/sessions/{session_id}/tickets", {"scopes": list(scopes)})
    return f"?ticket={answer.json()['ticket']}"


def test_everything_that_is_open_ends_with_its_key_and_nothing_else_does(
    gevent: Api, there: Api, holder: Holder, label: str
) -> None:
    session_id = there.create()
    holder.run(session_id).write(b"x")
    key_id, key = made(gevent, label)
    _, other = made(gevent, f"{label}-other")
    reader = ticket(there, key, session_id, "read")
    writer = ticket(there, key, session_id, "write")
    streams = [
        stream(there, session_id, **bearer(key)),
        stream(there, session_id, "?events=status", **bearer(key)),
        stream(there, session_id, reader),
    ]
    sockets = [
        web_socket(there, session_id, header=bearer(key)),
        web_socket(there, session_id, header={}, subprotocols=["jelmore.v1", f"bearer.{key}"]),
        web_socket(there, session_id, writer, header={}),  # is shown nothing, and is closed all the same
    ]
    unconcerned = [stream(there, session_id, **bearer(other)), web_socket(there, session_id, header=bearer("ada-key"))]

    revoked = gevent.as_("root-key").delete(f"/keys/{key_id}")
    assert revoked.status_code == 200

    assert [each.end() for each in streams] == [("stream_error", "INVALID_API_KEY")] * 3
    assert [each.end() for each in sockets] == [OVER] * 3
    assert all(each.is_open for each in unconcerned)
    eventually(lambda: there.as_(key).get("/sessions").status_code == 401, KEPT_SECONDS + 1)
    assert gevent.client.get(f"/api/v1/sessions/{session_id}/stream", headers=bearer(key)).status_code == 401


def test_what_is_open_ends_with_a_keys_last_moment_and_with_its_overlap(
    gevent: Api, there: Api, holder: Holder, label: str
) -> None:
    session_id = there.create()
    holder.run(session_id)
    last = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    _, expiring = made(gevent, label, expires_at=last)
    key_id, rotated = made(gevent, f"{label}-rotated")
    lasting_id, lasting = made(gevent, f"{label}-lasting")
    ending = [stream(there, session_id, **bearer(expiring)), stream(there, session_id, **bearer(rotated))]
    closing = [web_socket(there, session_id, header=bearer(key)) for key in (expiring, rotated)]
    going_on = stream(there, session_id, **bearer(lasting))
    root = gevent.as_("root-key")
    root.post(f"/keys/{key_id}/rotate", {"overlap_seconds": 1})
    new = root.post(f"/keys/{lasting_id}/rotate", {"overlap_seconds": 60}).json()["key"]

    assert [each.end(SOON_SECONDS + 3) for each in ending] == [("stream_error", "INVALID_API_KEY")] * 2
    assert [each.end() for each in closing] == [OVER] * 2
    assert going_on.is_open
    assert there.as_(new).get("/sessions").status_code == 200


def test_a_message_is_answered_for_no_key_that_is_over(gevent: Api, there: Api, holder: Holder, label: str) -> None:
    """The log is not looked at in between: who talks is told at once."""
    session_id = there.create()
    run = holder.run(session_id)
    key_id, key = made(gevent, label, "write")
    with talking(there, session_id, header=bearer(key)) as talk:
        assert talk.ask(type="input", content="x")["event"] == "input_received"
        gevent.as_("root-key").delete(f"/keys/{key_id}")

        def is_over() -> bool:
            talk.say(type="ping")
            return talk.text() is None

        eventually(is_over, SOON_SECONDS, every=0.1)
        assert talk.code == OVER
    assert len(run.fetch()) == 1


def test_who_takes_nothing_is_cut_half_a_minute_after_the_key_is_over(web: Web, plain: Api, label: str) -> None:
    clock = FakeClock(datetime.now(UTC))
    watch = KeyWatch(web.database, StoredKeys(web.database, clock), clock)
    key_id, key = made(plain, label)
    caller = web.keyring.find(key.encode())
    assert caller is not None
    cut: list[str] = []
    watched = watch.enter(caller, lambda: cut.append("cut"))

    watch.look()
    watched.check()
    plain.as_("root-key").delete(f"/keys/{key_id}")
    watch.look()
    with pytest.raises(InvalidApiKey):
        watched.check()
    clock.advance(CUT_SECONDS - 1)
    watch.look()
    assert cut == []
    clock.advance(1)
    watch.look()
    assert cut == ["cut"]
    assert 2 * LOOK_SECONDS + CUT_SECONDS < 30
    assert UUID(key_id) == caller.key_id
