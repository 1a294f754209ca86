"""What users of the service do, as locust drives it: `make load`, or by hand beside any installation:

    LOAD_KEY=... locust -f tests/load/locustfile.py --host http://127.0.0.1:8000 --stop-timeout 10

* `Runner` creates a session, reads its stream, sends input, waits until it comes back, terminates it, reads the stream to its end;
* `Rereader` follows a session that prints on and on, is cut off at random moments and comes again with the last id it has;
* `Lister` lists sessions, looks at one, reads its output.

Whatever is not exactly as promised - a hole, a repeat, a wrong byte count, a stream without an end - is a failure, as an HTTP
error is.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from typing import TYPE_CHECKING, Any, Final

from locust import User, between, constant, events, task

from tests.load.speaking import Broken, Connection

if TYPE_CHECKING:
    from locust.env import Environment

SESSIONS: Final = "/api/v1/sessions"
KEY: Final = os.environ.get("LOAD_KEY", "")  # noqa: TID251  (locust starts this file itself)
TICKS: Final = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.1; done"
STEADY: Final[list[str]] = []
"""The path of the session that all who reread follow: there is one from the test's start to its stop."""


@events.test_start.add_listener
def start_steady(environment: Environment, **_: object) -> None:
    """Begin the session that is reread."""
    wanted = {"query": TICKS, "program": "shell", "timeout_minutes": 1440}
    made = Connection(environment.host, KEY).ask("POST", SESSIONS, wanted).json()
    STEADY.append(f"{SESSIONS}/{made['session_id']}")


@events.test_stop.add_listener
def stop_steady(environment: Environment, **_: object) -> None:
    """End it."""
    while STEADY:
        Connection(environment.host, KEY).quietly("DELETE", STEADY.pop())


class Speaker(User):
    """Somebody with a connection of their own, whose waits are measured."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        self.connection = Connection(self.host, KEY)

    def on_stop(self) -> None:
        """Hang up."""
        self.connection.close()

    def measured(self, name: str, began: float, size: int = 0, fault: Exception | None = None) -> None:
        """Note how long something took, since `began`, and whether it was as it should be."""
        took = (time.perf_counter() - began) * 1000
        self.environment.events.request.fire(
            request_type="jelmore", name=name, response_time=took, response_length=size, exception=fault, context={}
        )

    def ask(self, name: str, method: str, path: str, body: object = None) -> Any:
        """Send a request, and note what it took. Raises Broken, noted as well."""
        began = time.perf_counter()
        try:
            answer = self.connection.ask(method, path, body)
        except Broken as fault:
            self.measured(name, began, 0, fault)
            raise
        self.measured(name, began, len(answer.body))
        return answer.json()


class Runner(Speaker):
    """Create, tail, send input, terminate."""

    weight = 8
    wait_time = between(0.0, 0.2)

    @task
    def whole(self) -> None:
        """Run one session from its beginning to its end."""
        began = time.perf_counter()
        path = None
        try:
            session = self.ask("create", "POST", SESSIONS, {"query": "hello", "program": "cat"})
            path = f"{SESSIONS}/{session['session_id']}"
            self.measured("run", began, self._follow(path, began))
        except Broken as fault:
            self.measured("run", began, 0, fault)
            if path is not None:
                self.connection.quietly("DELETE", path)

    def _follow(self, path: str, began: float) -> int:
        """Read a session's stream to its end, and do what it asks for on the way; return the size of its output."""
        digest, size, sent = hashlib.sha256(), 0, 0.0
        word = f"word {random.random()}"
        for told in self.connection.follow(f"{path}/stream"):
            if told.event == "output":
                told.check_offset(size)
                digest.update(told.content)
                size += len(told.content)
                if not sent:
                    self.measured("first output", began)
                    sent = time.perf_counter()
                    self.ask("input", "POST", f"{path}/input", {"input": word})
                elif word.encode() in told.content:
                    self.measured("input comes back", sent)
                    self.ask("terminate", "DELETE", path)
            elif told.event == "terminated":
                told.check_end(size, digest.hexdigest())
                return size
        raise Broken("a stream ended without its end")


class Rereader(Speaker):
    """Follow, be cut off, come again."""

    weight = 5
    wait_time = constant(0)

    def on_start(self) -> None:
        """Begin at the end of what there is."""
        super().on_start()
        self._last: str | None = None
        self._end: int | None = None

    @task
    def follow(self) -> None:
        """Follow the steady session for a while, from where the last while ended."""
        began = time.perf_counter()
        try:
            self._piece(began)
        except Broken as fault:
            self.measured("come again", began, 0, fault)
            self._last = self._end = None

    def _piece(self, began: float) -> None:
        until, first = began + random.uniform(0.2, 3), True
        place = STEADY[0] + ("/stream" if self._last else "/stream?tail=1")
        for told in self.connection.follow(place, self._last):
            if told.event == "terminated":
                raise Broken("the steady session ended")
            if told.event != "output":
                continue
            if self._end is not None:
                told.check_offset(self._end)
            self._last, self._end = told.id, told.offset + len(told.content)
            if first:
                self.measured("come again", began, len(told.content))
                first = False
            if time.perf_counter() > until:
                return


class Lister(Speaker):
    """List and poll."""

    weight = 3
    wait_time = between(0.1, 0.5)

    @task
    def look(self) -> None:
        """Look at what is there, and at one of it."""
        try:
            shown = self.ask("list", "GET", f"{SESSIONS}?limit=20")
            path = f"{SESSIONS}/{random.choice(shown)['session_id']}"
            self.ask("show", "GET", path)
            self.ask("output", "GET", f"{path}/output?limit=4096")
        except Broken:
            return  # noted already
