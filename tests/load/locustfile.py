"""What users of the service do, as locust drives it: `make load`, or by hand beside any installation:

    LOAD_KEY=... locust -f tests/load/locustfile.py --host http://127.0.0.1:8000

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

from locust import User, between, constant, task

from tests.load.speaking import Broken, Connection, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS: Final = "/api/v1/sessions"
KEY: Final = os.environ.get("LOAD_KEY", "")  # noqa: TID251  (locust starts this file itself)
TICKS: Final = "i=0; while [ $i -lt 100000 ]; do echo tick $i; i=$((i+1)); sleep 0.1; done"
STEADY: Final[list[str]] = []
"""The session that all who reread follow."""


class Speaker(User):
    """Somebody with a connection of their own, whose waits are measured."""

    abstract = True

    def on_start(self) -> None:
        """Connect."""
        self.connection = Connection(self.host or "", KEY)

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
        """Send a request; None if it failed, which is noted."""
        began = time.perf_counter()
        try:
            answer = self.connection.ask(method, path, body)
        except (OSError, Broken) as fault:
            self.measured(name, began, 0, fault)
            return None
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
        session = self.ask("create", "POST", SESSIONS, {"query": "hello", "program": "cat"})
        if session is None:
            return
        path = f"{SESSIONS}/{session['session_id']}"
        try:
            self._follow(path, began)
        except (OSError, Broken) as fault:
            self.measured("run", began, 0, fault)
            self.connection.quietly("DELETE", path)

    def _follow(self, path: str, began: float) -> None:
        digest, size = hashlib.sha256(), 0
        word = f"word {random.random()}"
        sent = 0.0
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
                self.measured("run", began, size)
                return
        raise Broken("a stream ended without its end")


class Rereader(Speaker):
    """Follow, be cut off, come again."""

    weight = 5
    wait_time = constant(0)

    @task
    def follow(self) -> None:
        """Follow the steady session for a while, in pieces."""
        if not STEADY:
            STEADY.append("")
            made = self.ask("create", "POST", SESSIONS, {"query": TICKS, "program": "shell", "timeout_minutes": 60})
            STEADY[0] = made["session_id"] if made else ""
        if not STEADY[0]:
            time.sleep(1)
            return
        last, end = None, None
        for _ in range(10):
            began = time.perf_counter()
            try:
                last, end = self._piece(began, last, end)
            except (OSError, Broken) as fault:
                self.measured("come again", began, 0, fault)
                return

    def _piece(self, began: float, last: str | None, end: int | None) -> tuple[str | None, int | None]:
        until, first = time.perf_counter() + random.uniform(0.2, 3), True
        for told in self._told(last):
            if told.event == "terminated":
                raise Broken("the steady session ended")
            if told.event != "output":
                continue
            if end is not None:
                told.check_offset(end)
            last, end = told.id, told.offset + len(told.content)
            if first:
                self.measured("come again", began, len(told.content))
                first = False
            if time.perf_counter() > until:
                break
        return last, end

    def _told(self, last: str | None) -> Iterator[Told]:
        tail = "" if last is not None else "?tail=1"
        return self.connection.follow(f"{SESSIONS}/{STEADY[0]}/stream{tail}", last)


class Lister(Speaker):
    """List and poll."""

    weight = 3
    wait_time = between(0.1, 0.5)

    @task
    def look(self) -> None:
        """Look at what is there, and at one of it."""
        shown = self.ask("list", "GET", f"{SESSIONS}?limit=20")
        if shown:
            path = f"{SESSIONS}/{random.choice(shown)['session_id']}"
            self.ask("show", "GET", path)
            self.ask("output", "GET", f"{path}/output?limit=4096")
