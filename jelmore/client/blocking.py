"""The client for plain threads, and gevent's. Its twin for asyncio and trio is `jelmore.client.asynchronous`, method by method."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, Unpack

from jelmore.client import calls
from jelmore.client.account import next_cursor
from jelmore.client.blocking_link import Link
from jelmore.client.following import Wish, output_of
from jelmore.client.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from jelmore.client.events import Event
    from jelmore.client.shapes import (
        Asked,
        Encoding,
        Input,
        Mode,
        OutputPage,
        Receipt,
        Request,
        ResumeFields,
        Scope,
        Session,
        SessionFields,
        SessionFilter,
        Termination,
        Ticket,
        Until,
        Waited,
    )


class BlockingJelmoreClient(Link):
    """Speaks to one service with one key.

    Inside `with` it keeps its connections; without, every call opens one of its own, and nothing needs closing.
    """

    # Sessions.

    def create_session(
        self,
        query: str,
        user_id: str | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SessionFields],
    ) -> Session:
        """Create a session. Sent again with the same `idempotency_key` it is the same session."""
        return self._send(calls.create(query, user_id, idempotency_key, fields))

    def get_session(self, session_id: str) -> Session:
        """Show a session."""
        return self._send(calls.get(session_id))

    def list_sessions(self, **wanted: Unpack[SessionFilter]) -> list[Session]:
        """List sessions, newest first: one page."""
        return (self._send(calls.page_of_sessions(wanted)))[0]

    def sessions(self, **wanted: Unpack[SessionFilter]) -> Iterator[Session]:
        """Yield sessions, newest first, page after page."""
        page, link = self._send(calls.page_of_sessions(wanted))
        while True:
            yield from page
            if (cursor := next_cursor(link)) is None:
                return
            page, link = self._send(calls.page_of_sessions(wanted, cursor))

    def terminate(self, session_id: str, reason: str | None = None, *, wait_seconds: float = 10.0) -> Termination:
        """End a session, and wait for its end up to 25 s. It is no error if it has ended already."""
        return self._send(calls.terminate(session_id, reason, wait_seconds))

    def wait(
        self, session_id: str, *, from_offset: int = 0, timeout_seconds: float = 60.0, **until: Unpack[Until]
    ) -> Waited:
        """Wait until one thing is true of a session: `status`, `exit=True`, `text`, `regex` or `idle_ms`.

        `matched` is False when the time is over, or when it cannot come true any more.
        """
        waiting = Waiting(until, from_offset, timeout_seconds)
        while not waiting.over:
            waiting.take(self._send(calls.wait(session_id, waiting.until, waiting.offset, waiting.seconds())))
        return waiting.outcome()

    # Output and input.

    def output(
        self, session_id: str, *, offset: int = 0, limit: int | None = None, encoding: Encoding = "utf-8"
    ) -> OutputPage:
        """Read a page of output, from a byte on, with what is said about it. `limit`: bytes."""
        return self._send(calls.output(session_id, offset, limit, encoding))

    def output_bytes(self, session_id: str, *, offset: int = 0) -> bytes:
        """Read exactly what was printed until now, from a byte on."""
        return b"".join(self._output_pages(session_id, offset))

    def output_text(self, session_id: str, *, offset: int = 0) -> str:
        """Read what was printed until now; bytes that are no UTF-8 become U+FFFD."""
        return (self.output_bytes(session_id, offset=offset)).decode(errors="replace")

    def _output_pages(self, session_id: str, offset: int) -> Iterator[bytes]:
        page = b""
        while not page or len(page) == calls.PAGE_BYTES:
            page = self._send(calls.output_bytes(session_id, offset))
            offset += len(page)
            yield page
            if not page:
                return

    def send_input(  # noqa: PLR0913  (all but two are options)
        self,
        session_id: str,
        text: str,
        *,
        newline: bool = True,
        raw: bool = False,
        mode: Mode | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Receipt:
        """Send input: durable, and in its place, when this returns. `raw`: exactly that, whatever `newline` says."""
        body = {"input": text, "newline": newline, "raw": raw, "mode": mode, "metadata": metadata}
        return self._send(calls.send_input(session_id, body, idempotency_key))

    def inputs(self, session_id: str, *, after: int = 0, limit: int = 100) -> list[Input]:
        """List what was asked of a session, and how far each has come."""
        return self._send(calls.inputs(session_id, after, limit))

    def signal(self, session_id: str, signal: str) -> Asked:
        """Send a signal, by name: at once."""
        return self._send(calls.ask(session_id, "signal", {"signal": signal}, repeatable=False))

    def interrupt(self, session_id: str) -> Asked:
        """Do what ^C does: at once."""
        return self._send(calls.ask(session_id, "interrupt", {}, repeatable=False))

    def eof(self, session_id: str) -> Asked:
        """End the input, behind what was sent before."""
        return self._send(calls.ask(session_id, "eof", {}, repeatable=True))

    def resize(self, session_id: str, rows: int, cols: int) -> Asked:
        """Set the size of the terminal, in its place among the input."""
        return self._send(calls.ask(session_id, "resize", {"rows": rows, "cols": cols}, repeatable=True))

    def extend(self, session_id: str, timeout_minutes: int) -> Asked:
        """Let the session run so many minutes from now."""
        return self._send(calls.ask(session_id, "extend", {"timeout_minutes": timeout_minutes}, repeatable=True))

    # Conversations.

    def resume(
        self, session_id: str, query: str, *, idempotency_key: str | None = None, **fields: Unpack[ResumeFields]
    ) -> Session:
        """Go on with an ended session's conversation, in a new session."""
        return self._send(calls.resume(session_id, query, idempotency_key, fields))

    def requests(self, session_id: str, state: str | None = None) -> list[Request]:
        """List what a session's program wants decided. `state`: those that are open, allowed, denied or withdrawn."""
        return self._send(calls.requests(session_id, state))

    def decide(
        self,
        session_id: str,
        request_id: str,
        *,
        allow: bool,
        input: dict[str, Any] | None = None,  # noqa: A002  (the member's name)
        message: str | None = None,
        remember: Literal["once", "session"] | None = None,
    ) -> Asked:
        """Decide what a program asked for. `input`: what its tool is given instead; `message`: what it is told with a denial."""
        body = {"decision": "allow" if allow else "deny", "input": input, "message": message, "remember": remember}
        return self._send(calls.decide(session_id, request_id, body))

    # Streams.

    def stream(
        self,
        session_id: str,
        *,
        after: int | None = None,
        tail: int | None = None,
        events: Sequence[str] = (),
        encoding: Encoding = "utf-8",
    ) -> Generator[Event]:
        """Yield a session's events until after its end; where the connection breaks it is resumed without loss or repetition.

        `after`: an entry's id; `tail`: lines; `events`: kinds. encoding="base64" makes `Event.content` exact whatever was printed.
        Close it (contextlib.closing) if you leave before the end.
        """
        wish = Wish(after, tail, events, encoding)
        with closing(self._follow(session_id, wish)) as following:
            yield from following

    def stream_text(self, session_id: str, *, after: int | None = None) -> Generator[str]:
        """Yield what is printed, as text, until the session's end. Raises OutputLost.

        A character that is printed in pieces, with a pause between them, becomes U+FFFD: decode `stream_bytes` if that matters.
        """
        with closing(self.stream(session_id, after=after, events=("output",))) as events:
            for event in events:
                if text := output_of(event).text:
                    yield text

    def stream_bytes(self, session_id: str, *, after: int | None = None) -> Generator[bytes]:
        """Yield exactly what is printed until the session's end. Raises OutputLost."""
        with closing(self.stream(session_id, after=after, events=("output",), encoding="base64")) as events:
            for event in events:
                if content := output_of(event).content:
                    yield content

    def stream_output(self, session_id: str) -> Generator[str]:
        """Yield a session's events as Server-Sent Events are written, one at a time: `id: …`, `event: output`, `data: {…}`."""
        with closing(self.stream(session_id)) as events:
            for event in events:
                yield event.source

    def ticket(self, session_id: str, scopes: Sequence[Scope] = ("read",)) -> Ticket:
        """Get a ticket with which a browser opens one stream."""
        return self._send(calls.ticket(session_id, scopes))

    # The service.

    def health(self) -> dict[str, Any]:
        """Show how the service is: an answer even if it is unhealthy."""
        return self._send(calls.health())

    def stats(self) -> dict[str, Any]:
        """Show the service's numbers."""
        return self._send(calls.stats())
