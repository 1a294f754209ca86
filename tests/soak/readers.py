"""The readers of a soak: each follows one session to its end, over connections that it cuts, at its own pace.

All go through `Doors`: any web process will do, at any time.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import websocket

from tests.client import BROKEN, SESSIONS, Client, Event
from tests.soak.stories import Seen

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tests.client import Answer

TIMEOUT_SECONDS: Final = 12.0
READ_TIMEOUT_SECONDS: Final = 20.0
AGAIN_SECONDS: Final = 0.3

Pace = Literal["steady", "slow", "restless"]
PACES: Final[tuple[Pace, ...]] = ("steady", "slow", "restless")
TRANSPORTS: Final = ("sse", "ws")
CUTS: Final[dict[Pace, tuple[float, ...]]] = {
    "steady": (0.05, 0.5, 2.0, 10.0, 60.0),
    "slow": (10.0, 60.0),
    "restless": (0.02, 0.1, 0.5, 2.0),
}
"""How long a connection is kept at most, in seconds; one of these times chance."""
NAPS: Final = (0.2, 1.0, 3.0)
NAP_EVERY: Final = 20
"""Events, of a slow one."""


@dataclass
class Doors:
    """The web processes, and one key; every request goes to one of them at random."""

    ports: Sequence[int]
    key: str
    oddities: list[str] = field(default_factory=list)
    """Answers that no fault excuses."""

    def any(self, choice: random.Random) -> Client:
        return Client(choice.choice(self.ports), self.key)

    def ask(self, choice: random.Random, method: str, path: str, body: object = None) -> tuple[str, Answer | None]:
        """Send a request; return `accepted`, `refused` or `maybe`, and the answer if there was one."""
        try:
            answer = self.any(choice).request(method, path, body, timeout=TIMEOUT_SECONDS)
        except ConnectionRefusedError:
            return "refused", None
        except BROKEN:
            return "maybe", None
        if answer.status < 300:
            return "accepted", answer
        if answer.status >= 500 and answer.status != 503:
            self.oddities.append(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        # 503: PostgreSQL may have been lost between a commit and its answer.
        return "maybe" if answer.status >= 500 else "refused", answer


class Refused(Exception):
    """A status that is no stream."""


class Reader:
    """Follows one session to its end."""

    def __init__(
        self,
        seen: Seen,
        doors: Doors,
        session_id: str,
        *,
        seed: int = 0,
        deadline: threading.Event | None = None,
        pace: Pace = "steady",
        transport: str = "sse",
    ) -> None:
        self.seen = seen
        self._doors = doors
        self._session_id = session_id
        self._choice = random.Random(seed)
        self._deadline = deadline or threading.Event()
        self._pace = pace
        self._open = self._server_sent if transport == "sse" else self._said
        self.thread = threading.Thread(target=self._read, daemon=True)

    @property
    def is_over(self) -> bool:
        return self.seen.end is not None or bool(self.seen.faults)

    def _read(self) -> None:
        while not self.is_over and not self._deadline.is_set():
            try:
                self._read_once()
            except BROKEN:
                time.sleep(AGAIN_SECONDS)
            except AssertionError:
                return  # no end and no news for a minute and a half

    def _read_once(self) -> None:
        self.seen.connections += 1
        cut = time.monotonic() + self._choice.choice(CUTS[self._pace]) * self._choice.random()
        try:
            with closing(self._open(self._doors.any(self._choice))) as events:
                for number, event in enumerate(events, start=1):
                    self.take(event)
                    if self.is_over or time.monotonic() > cut:
                        return
                    if self._pace == "slow" and number % NAP_EVERY == 0:
                        time.sleep(self._choice.choice(NAPS) * self._choice.random())
        except Refused as refused:
            if refused.args[0] < 500:
                self.seen.faults.append(f"status {refused} at entry {self.seen.last_id}")
            time.sleep(AGAIN_SECONDS)

    def _server_sent(self, client: Client) -> Generator[Event]:
        position = self.seen.last_id or None
        with client.follow(
            self._session_id, "?encoding=base64", last_event_id=position, timeout=READ_TIMEOUT_SECONDS
        ) as stream:
            if stream.status != 200:
                raise Refused(stream.status)
            yield from stream

    def _said(self, client: Client) -> Generator[Event]:
        query = f"?encoding=base64&after={self.seen.last_id}"
        try:
            socket = websocket.create_connection(
                f"ws://127.0.0.1:{client.port}{SESSIONS}/{self._session_id}/ws{query}",
                timeout=READ_TIMEOUT_SECONDS,
                header=[f"Authorization: Bearer {client.key}"],
                subprotocols=["jelmore.v1"],
            )
            with closing(socket):
                while True:
                    opcode, payload = socket.recv_data()
                    if opcode == websocket.ABNF.OPCODE_CLOSE:
                        return
                    message = json.loads(payload)
                    yield Event(message.get("seq"), message["event"], message, time.monotonic())
        except websocket.WebSocketBadStatusException as refused:
            raise Refused(refused.status_code) from refused
        except websocket.WebSocketException as broken:
            raise OSError(str(broken)) from broken

    def take(self, event: Event) -> None:
        """Note an event, and whatever is wrong with its number or its offset."""
        seen = self.seen
        if event.id is None:
            if event.event == "stream_error":
                raise OSError(event.data["error_code"])
            return
        # A gap may begin before what this reader has seen: it saw entries that were lost.
        first = min(event.data["from"], seen.last_id + 1) if event.event == "gap" else event.id
        if event.id <= seen.last_id or first > seen.last_id + 1:
            seen.faults.append(f"entry {event.id} ({event.event}) after {seen.last_id}")
        seen.last_id = event.id
        if event.event == "output":
            if event.data["offset"] != len(seen.content):
                seen.faults.append(f"offset {event.data['offset']} after {len(seen.content)} bytes")
            seen.content += event.content
        elif event.event == "gap":
            seen.gaps.append(event.data["reason"])
        elif event.event == "restarted":
            seen.restarts.append(len(seen.content))
        elif event.event == "terminated":
            seen.end = event.data


def crowd(doors: Doors, session_id: str, token: str, count: int, seed: int, deadline: threading.Event) -> list[Reader]:
    """Start readers of every pace by both transports, in turn; the first one keeps its connections longest."""
    choice = random.Random(seed)
    turn = choice.randrange(len(PACES) * len(TRANSPORTS))
    readers = []
    for number in range(count):
        pace, transport = PACES[number % len(PACES)], TRANSPORTS[(number + turn) % len(TRANSPORTS)]
        seen = Seen(f"{token}/{number} {pace} {transport}")
        reader = Reader(
            seen,
            doors,
            session_id,
            seed=choice.getrandbits(32),
            deadline=deadline,
            pace=pace,
            transport=transport,
        )
        reader.thread.start()
        readers.append(reader)
    return readers
