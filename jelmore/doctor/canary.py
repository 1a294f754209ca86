"""The canary: a session made, followed, written to, left in silence and ended, through whatever stands before the service.

Gathers facts only. One of the two channels may be cut or held back while the other goes on: each is read by a thread of its own.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import httpx2

from jelmore.client.errors import ClientError
from jelmore.client.events import Parser
from jelmore.doctor.facts import Canary, Reached
from jelmore.doctor.seen import Seen
from jelmore.doctor.wire import Wire, json_object, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from core.clock import Clock
    from jelmore.doctor.facts import Channel

SERVICE: Final = "jelmore-integrated-api"
ANSWER_SECONDS: Final = 20.0
START_SECONDS: Final = 10.0
ECHO_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1
LIFE_MINUTES: Final = 5
"""A canary whose doctor is killed ends itself."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What is asked of the canary. `program` prints what it is sent; `idle_seconds`: how long it keeps silent."""

    url: str
    key: str
    prefix: str = "/api"
    program: str = "shell"
    idle_seconds: float = 25.0

    @property
    def sessions(self) -> str:
        """Return where sessions are."""
        return f"{self.url}{self.prefix}/v1/sessions"


def reach(url: str, clock: Clock) -> Reached:
    """Ask for the service's health."""
    try:
        with httpx2.Client(timeout=ANSWER_SECONDS) as http:
            http.get(f"{url}/health/live")  # the connection is made: what is measured next is one round trip
            began = clock.now()
            answer = http.get(f"{url}/health")
            ahead = clock.at().timestamp() - (clock.now() - began) / 2
    except (httpx2.TransportError, httpx2.InvalidURL) as fault:
        return Reached(url, trouble=str(fault) or type(fault).__name__)
    said: dict[str, Any] = json_object(answer.content)
    if said.get("service") != SERVICE:
        return Reached(url, status=answer.status_code)
    told = said.get("timestamp")
    skew = ahead - float(told) if isinstance(told, int | float) else None
    return Reached(url, None, answer.status_code, said, skew)


def send(errand: Errand) -> Canary:
    """Send a canary; return what became of it, whatever it was."""
    canary = Canary()
    with httpx2.Client(timeout=ANSWER_SECONDS, headers={"Authorization": f"Bearer {errand.key}"}) as http:
        flight = _Flight(http, errand, canary)
        try:
            flight.go()
        except (httpx2.TransportError, httpx2.DecodingError) as fault:
            canary.trouble = str(fault) or type(fault).__name__
        finally:
            flight.clear()
    return canary


class _Flight:
    """One canary session on its way."""

    def __init__(self, http: httpx2.Client, errand: Errand, canary: Canary) -> None:
        self._http = http
        self._errand = errand
        self._canary = canary
        self._live: list[str] = []
        self._stream = Seen()
        self._socket = Seen()
        self._wire = Wire(self._socket, errand.idle_seconds + ANSWER_SECONDS)

    def go(self) -> None:
        """Do everything in turn, as far as it makes sense."""
        if not self._create():
            return
        self._stream, resumed = self._follow({}), None
        self._open_socket()
        if self._starts():
            if self._echo(first=True) and self._errand.idle_seconds:
                self._rest()
                self._echo(first=False)
            resumed = self._resume()
        self._end(resumed)

    def clear(self) -> None:
        """End what is left of it."""
        for session_id in self._live:
            try:
                answer = self._http.delete(f"{self._errand.sessions}/{session_id}", params={"reason": "canary"})
            except httpx2.TransportError:
                answer = None
            if answer is None or answer.status_code not in (200, 202, 404):
                self._canary.left_behind = session_id
        self._wire.hang_up()

    # Its life.

    def _create(self) -> bool:
        once, request_id = uuid4().hex, f"doctor-{uuid4().hex}"
        body = {"query": "exec cat", "program": self._errand.program, "timeout_minutes": LIFE_MINUTES}
        for headers in ({"Idempotency-Key": once, "X-Request-ID": request_id}, {"Idempotency-Key": once}):
            answer = self._http.post(self._errand.sessions, json=body, headers=headers)
            session_id = json_object(answer.content).get("session_id")
            if answer.status_code != 201 or not isinstance(session_id, str):
                self._canary.refusal = refusal(answer.status_code, answer.content, answer.headers)
                return False
            if session_id not in self._live:
                self._live.append(session_id)
            if "X-Request-ID" in headers:
                self._canary.request_id_kept = answer.headers.get("x-request-id") == request_id
        self._canary.replayed = len(self._live) == 1
        return True

    def _starts(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while True:
            shown = self._show()
            self._canary.status = str(shown.get("status", "unknown"))
            if self._canary.status != "initializing":
                break
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_SECONDS)
        self._canary.started = True
        if shown.get("ended_at") or self._canary.status in ("completed", "terminated", "failed"):
            why = shown.get("error") or shown.get("reason")
            self._canary.trouble = f"its program ended at once, {self._canary.status} ({why})"
            return False
        return True

    def _echo(self, *, first: bool) -> bool:
        """Have it print something, and look where that comes; return whether it came anywhere."""
        token = f"canary-{uuid4().hex[:12]}"
        answer = self._http.post(self._at("input"), json={"input": token})
        if answer.status_code != 200:
            said = refusal(answer.status_code, answer.content, answer.headers)
            self._canary.trouble = f"its input was refused: {said.status} {said.detail}"
            return False
        began = time.monotonic()
        came = False
        for seen, channel in self._channels():
            if seen.closed_at is not None:
                continue
            heard = seen.wait(lambda seen: token in seen.text, ECHO_SECONDS - (time.monotonic() - began))
            came = came or heard
            if not first:
                channel.again = heard
            elif heard and seen.last_at is not None:
                channel.echo_after = max(0.0, seen.last_at - began)
        if first:
            self._canary.printed = came or self._has_printed(token)
        return came

    def _rest(self) -> None:
        """Keep silent until each channel has shown a sign of life, or was cut."""
        began = time.monotonic()
        for seen, channel in self._channels():
            left = self._errand.idle_seconds - (time.monotonic() - began)
            if channel.echo_after is None:
                continue
            if seen.wait(lambda seen: (seen.sign_at or 0.0) > began, left) and seen.sign_at is not None:
                channel.sign_after = seen.sign_at - began

    def _resume(self) -> Seen | None:
        """Open the stream behind what came: whoever loses Last-Event-ID gets it all again."""
        if not self._stream.ids:
            return None
        return self._follow({"Last-Event-ID": str(self._stream.ids[-1])})

    def _end(self, resumed: Seen | None) -> None:
        """End the session, and look who is told."""
        cuts = [seen.silence() for seen, _ in self._channels()]
        missing = [channel.echo_after is None for _, channel in self._channels()]
        before = [len(seen.text) for seen, _ in self._channels()]
        behind = self._stream.ids[-1] if resumed is not None else 0
        answer = self._http.delete(self._at(), params={"reason": "canary", "wait": "10"})
        if answer.status_code in (200, 202):
            self._live.remove(self._live[0])
        deadline = time.monotonic() + END_SECONDS
        for number, (seen, channel) in enumerate(self._channels()):
            seen.wait(lambda seen: seen.ended, deadline - time.monotonic())
            seen.tell(channel)
            channel.cut_after = cuts[number]
            channel.late = missing[number] and len(seen.text) > before[number]
        if resumed is not None:
            resumed.wait(lambda seen: seen.ended, deadline - time.monotonic())
            self._canary.resumed = all(number > behind for number in resumed.ids) if resumed.ids else None

    # Asking.

    def _channels(self) -> tuple[tuple[Seen, Channel], ...]:
        return (self._stream, self._canary.stream), (self._socket, self._canary.socket)

    def _at(self, *more: str) -> str:
        return "/".join((self._errand.sessions, self._live[0], *more))

    def _show(self) -> dict[str, Any]:
        shown = json_object(self._http.get(self._at()).content)
        if position := shown.get("queue_position"):
            self._canary.why = f"number {position} of those that wait"
        return shown

    def _has_printed(self, token: str) -> bool:
        return token in str(json_object(self._http.get(self._at("output")).content).get("output", ""))

    def _follow(self, headers: Mapping[str, str]) -> Seen:
        seen = Seen()
        threading.Thread(target=self._read, args=(seen, headers), daemon=True).start()
        return seen

    def _open_socket(self) -> None:
        threading.Thread(target=self._wire.read, args=(self._at("ws"), self._errand.key), daemon=True).start()

    def _read(self, seen: Seen, headers: Mapping[str, str]) -> None:
        """Read a stream to its end, in a thread."""
        # As browsers ask: whoever compresses streams does it to them.
        said = {"Accept": "text/event-stream", "Accept-Encoding": "gzip", **headers}
        seconds = self._errand.idle_seconds + ANSWER_SECONDS
        try:
            with self._http.stream("GET", self._at("stream"), headers=said, timeout=seconds) as answer:
                if answer.status_code != 200:
                    seen.close(refusal=refusal(answer.status_code, answer.read(), answer.headers))
                    return
                seen.encoding = answer.headers.get("content-encoding")
                parser = Parser()
                for chunk in answer.iter_bytes():
                    events = [*parser.feed(chunk)]
                    for event in events:
                        seen.event(event.event, event.text, event.id)
                    if not events and chunk.startswith(b":"):
                        seen.sign()
        except (httpx2.TransportError, httpx2.DecodingError, ClientError, RuntimeError) as fault:
            seen.close(broke=str(fault) or type(fault).__name__)
        else:
            seen.close()
