"""The client for asyncio and trio. Its blocking twin is `jelmore.client.blocking`, method by method."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Unpack

from jelmore.client import calls
from jelmore.client.account import next_cursor
from jelmore.client.asynchronous_link import Link
from jelmore.client.following import Wish, output_of
from jelmore.client.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

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


class JelmoreClient(Link):
    """Speaks to one service with one key.

    Inside `async with` it keeps its connections; without, every call opens one of its own, and nothing needs closing.
    """

    # Sessions.

    async def create_session(
        self,
        query: str,
        user_id: str | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SessionFields],
    ) -> Session:
        """Create a session. Sent again with the same `idempotency_key` it is the same session."""
        return await self._send(calls.create(query, user_id, idempotency_key, fields))

    async def get_session(self, session_id: str) -> Session:
        """Show a session."""
        return await self._send(calls.get(session_id))

    async def list_sessions(self, **wanted: Unpack[SessionFilter]) -> list[Session]:
        """List sessions, newest first: one page."""
        return (await self._send(calls.page_of_sessions(wanted)))[0]

    async def sessions(self, **wanted: Unpack[SessionFilter]) -> AsyncIterator[Session]:
        """Yield sessions, newest first, page after page."""
        page, link = await self._send(calls.page_of_sessions(wanted))
        while True:
            for session in page:
                yield session
            if (cursor := next_cursor(link)) is None:
                return
            page, link = await self._send(calls.page_of_sessions(wanted, cursor))

    async def terminate(self, session_id: str, reason: str | None = None, *, wait_seconds: float = 10.0) -> Termination:
        """End a session, and wait for its end up to 25 s. It is no error if it has ended already."""
        return await self._send(calls.terminate(session_id, reason, wait_seconds))

    async def wait(
        self, session_id: str, *, from_offset: int = 0, timeout_seconds: float = 60.0, **until: Unpack[Until]
    ) -> Waited:
        """Wait until one thing is true of a session: `status`, `exit=True`, `text`, `regex` or `idle_ms`.

        `matched` is False when the time is over, or when it cannot come true any more.
        """
        waiting = Waiting(until, from_offset, timeout_seconds)
        while not waiting.over:
            waiting.take(await self._send(calls.wait(session_id, waiting.until, waiting.offset, waiting.seconds())))
        return waiting.outcome()

    # Output and input.

    async def output(
        self, session_id: str, *, offset: int = 0, limit: int | None = None, encoding: Encoding = "utf-8"
    ) -> OutputPage:
        """Read a page of output, from a byte on, with what is said about it. `limit`: bytes."""
        return await self._send(calls.output(session_id, offset, limit, encoding))

    async def output_bytes(self, session_id: str, *, offset: int = 0) -> bytes:
        """Read exactly what was printed until now, from a byte on."""
        return b"".join([page async for page in self._output_pages(session_id, offset)])

    async def output_text(self, session_id: str, *, offset: int = 0) -> str:
        """Read what was printed until now; bytes that are no UTF-8 become U+FFFD."""
        return (await self.output_bytes(session_id, offset=offset)).decode(errors="replace")

    async def _output_pages(self, session_id: str, offset: int) -> AsyncIterator[bytes]:
        page = b""
        while not page or len(page) == calls.PAGE_BYTES:
            page = await self._send(calls.output_bytes(session_id, offset))
            offset += len(page)
            yield page
            if not page:
                return

    async def send_input(  # noqa: PLR0913  (all but two are options)
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
        return await self._send(calls.send_input(session_id, body, idempotency_key))

    async def inputs(self, session_id: str, *, after: int = 0, limit: int = 100) -> list[Input]:
        """List what was asked of a session, and how far each has come."""
        return await self._send(calls.inputs(session_id, after, limit))

    async def signal(self, session_id: str, signal: str) -> Asked:
        """Send a signal, by name: at once."""
        return await self._send(calls.ask(session_id, "signal", {"signal": signal}, repeatable=False))

    async def interrupt(self, session_id: str) -> Asked:
        """Do what ^C does: at once."""
        return await self._send(calls.ask(session_id, "interrupt", {}, repeatable=False))

    async def eof(self, session_id: str) -> Asked:
        """End the input, behind what was sent before."""
        return await self._send(calls.ask(session_id, "eof", {}, repeatable=True))

    async def resize(self, session_id: str, rows: int, cols: int) -> Asked:
        """Set the size of the terminal, in its place among the input."""
        return await self._send(calls.ask(session_id, "resize", {"rows": rows, "cols": cols}, repeatable=True))

    async def extend(self, session_id: str, timeout_minutes: int) -> Asked:
        """Let the session run so many minutes from now."""
        return await self._send(calls.ask(session_id, "extend", {"timeout_minutes": timeout_minutes}, repeatable=True))

    # Conversations.

    async def resume(
        self, session_id: str, query: str, *, idempotency_key: str | None = None, **fields: Unpack[ResumeFields]
    ) -> Session:
        """Go on with an ended session's conversation, in a new session."""
        return await self._send(calls.resume(session_id, query, idempotency_key, fields))

    async def requests(self, session_id: str, state: str | None = None) -> list[Request]:
        """List what a session's program wants decided. `state`: those that are open, allowed, denied or withdrawn."""
        return await self._send(calls.requests(session_id, state))

    async def decide(
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
        return await self._send(calls.decide(session_id, request_id, body))

    # Streams.

    async def stream(
        self,
        session_id: str,
        *,
        after: int | None = None,
        tail: int | None = None,
        events: Sequence[str] = (),
        encoding: Encoding = "utf-8",
    ) -> AsyncGenerator[Event]:
        """Yield a session's events until after its end; where the connection breaks it is resumed without loss or repetition.

        `after`: an entry's id; `tail`: lines; `events`: kinds. encoding="base64" makes `Event.content` exact whatever was printed.
        Close it (contextlib.aclosing) if you leave before the end.
        """
        wish = Wish(after, tail, events, encoding)
        async with aclosing(self._follow(session_id, wish)) as following:
            async for event in following:
                yield event

    async def stream_text(self, session_id: str, *, after: int | None = None) -> AsyncGenerator[str]:
        """Yield what is printed, as text, until the session's end. Raises OutputLost.

        A character that is printed in pieces, with a pause between them, becomes U+FFFD: decode `stream_bytes` if that matters.
        """
        async with aclosing(self.stream(session_id, after=after, events=("output",))) as events:
            async for event in events:
                if text := output_of(event).text:
                    yield text

    async def stream_bytes(self, session_id: str, *, after: int | None = None) -> AsyncGenerator[bytes]:
        """Yield exactly what is printed until the session's end. Raises OutputLost."""
        async with aclosing(self.stream(session_id, after=after, events=("output",), encoding="base64")) as events:
            async for event in events:
                if content := output_of(event).content:
                    yield content

    async def stream_output(self, session_id: str) -> AsyncGenerator[str]:
        """Yield a session's events as Server-Sent Events are written, one at a time: `id: …`, `event: output`, `data: {…}`."""
        async with aclosing(self.stream(session_id)) as events:
            async for event in events:
                yield event.source

    async def ticket(self, session_id: str, scopes: Sequence[Scope] = ("read",)) -> Ticket:
        """Get a ticket with which a browser opens one stream."""
        return await self._send(calls.ticket(session_id, scopes))

    # The service.

    async def health(self) -> dict[str, Any]:
        """Show how the service is: an answer even if it is unhealthy."""
        return await self._send(calls.health())

    async def stats(self) -> dict[str, Any]:
        """Show the service's numbers."""
        return await self._send(calls.stats())
