"""How a stream goes on when its connection breaks: what the reader has, from where it asks again, when it gives up.

Pure but for the clock that is handed in: bytes and faults come in, events and pauses go out. The clients hold the connection.

A stream is over after `terminated`; when the service answers 204, for there is nothing behind what the reader has; or with an
error that no second try mends. A stream that merely ends is one whose server goes: it is opened again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jelmore.client import calls
from jelmore.client.errors import ApiError, ClientError, OutputLost, ServiceFailed, StreamBroken, UnreadableAnswer
from jelmore.client.events import Parser
from jelmore.client.limits import LONGEST_RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jelmore.client.calls import Call
    from jelmore.client.events import Event
    from jelmore.client.limits import Limits
    from jelmore.client.shapes import Encoding

STEADY_SECONDS: Final = 5.0
"""A connection that held so long was no failure, even if nothing came."""
TOO_EARLY: Final = frozenset({408, 425, 429})
"""Refusals below 500 that a later try may not meet."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a session is to be followed. `after`: an entry's id; without it and `tail`, which is lines, from the start."""

    after: int | None = None
    tail: int | None = None
    events: Sequence[str] = ()
    encoding: Encoding = "utf-8"


@dataclass(slots=True)
class Following:
    """One reader of one session's stream, over all its connections."""

    session_id: str
    wish: Wish
    limits: Limits
    clock: Callable[[], float] = time.monotonic
    over: bool = False
    last_id: int | None = None
    _opened_once: bool = False
    _opened_at: float | None = None
    _advanced: bool = False
    _failures: int = 0
    _parser: Parser = field(default_factory=Parser)
    _headers: Mapping[str, str] = field(default_factory=dict)

    def call(self) -> Call[None]:
        """Return the request that opens the stream, or opens it again."""
        wish = self.wish
        params = [("events", ",".join(wish.events))] if wish.events else []
        if wish.encoding != "utf-8":
            params.append(("encoding", wish.encoding))
        if self.last_id is not None:
            return calls.stream(self.session_id, params, {"Last-Event-ID": str(self.last_id)})
        if wish.after is not None:
            params.append(("after", str(wish.after)))
        elif wish.tail is not None:
            params.append(("tail", str(wish.tail)))
        return calls.stream(self.session_id, params, {})

    def opened(self, status: int, headers: Mapping[str, str]) -> None:
        """Note that the service answers with a stream, or that there is nothing more. Raises UnreadableAnswer."""
        if status == 204:
            self.over = True
            return
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
            raise UnreadableAnswer("What answers is no stream of events.")
        self._parser, self._headers = Parser(), headers
        self._opened_at = self.clock()

    def take(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events these bytes complete; `connected` once, however often it was opened."""
        for event in self._parser.feed(chunk):
            if event.event == "stream_error":
                raise ServiceFailed(503, event.data, self._headers)
            if event.event == "connected":
                if self._opened_once:
                    continue
                self._opened_once = True
            if event.id is not None:
                # Before it is handed over: whoever has it does not get it again.
                self.last_id, self._advanced = event.id, True
            self.over = event.event == "terminated"
            yield event
            if self.over:
                return

    def pause(self, fault: ClientError | None) -> float:
        """Return how long to wait before opening it again. Raises the fault if that would not help, StreamBroken if it did not."""
        if isinstance(fault, UnreadableAnswer) or (isinstance(fault, ApiError) and _is_final(fault)):
            raise fault
        held = self._opened_at is not None and self.clock() - self._opened_at >= STEADY_SECONDS
        self._failures = 1 if self._advanced or held else self._failures + 1
        self._advanced, self._opened_at = False, None
        if self._failures > (self.limits.resumes if self._opened_once else self.limits.retries):
            raise fault if fault and not self._opened_once else self._broken(fault) from fault
        asked_for = fault.retry_after_seconds or 0.0 if isinstance(fault, ApiError) else 0.0
        return self.limits.pause(self._failures, min(asked_for, LONGEST_RETRY_AFTER_SECONDS))

    def _broken(self, fault: ClientError | None) -> StreamBroken:
        return StreamBroken(self.last_id, str(fault) if fault else "the service closed it each time")


def _is_final(fault: ApiError) -> bool:
    return fault.status < 500 and fault.status not in TOO_EARLY


def output_of(event: Event) -> Event:
    """Return an event of a stream of output. Raises OutputLost for one that says that some of it is lost."""
    if event.event == "gap":
        raise OutputLost(event.data)
    return event
