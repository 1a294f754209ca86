"""Connections for asyncio and trio: sending requests until one is answered, opening streams until they end.

What is sent, when again, and what an answer means is decided elsewhere. The blocking twin is `jelmore.client.blocking_link`.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
import httpx2

from jelmore.client.account import LARGEST_ERROR_BYTES, Account, Body, failed, new_request_id, result
from jelmore.client.errors import ClientError, api_error
from jelmore.client.following import Following
from jelmore.client.retrying import Retries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from types import TracebackType

    from jelmore.client.calls import Call
    from jelmore.client.events import Event
    from jelmore.client.following import Wish

T = TypeVar("T")


class Link(Account):
    """An account with connections to its service."""

    _kept: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Keep connections from here on."""
        self._kept = httpx2.AsyncClient(**self._http_options())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close what was kept."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close what was kept; later calls open connections of their own."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept.aclose()

    # Sending.

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._kept is not None:
            yield self._kept
        else:
            async with httpx2.AsyncClient(**self._http_options()) as http:
                yield http

    async def _send(self, call: Call[T]) -> T:
        retries, request_id = Retries(call, self.limits), new_request_id()
        while True:
            try:
                async with self._http() as http:
                    return await self._send_once(http, call, request_id)
            except ClientError as fault:
                await anyio.sleep(retries.pause(fault))

    async def _send_once(self, http: httpx2.AsyncClient, call: Call[T], request_id: str) -> T:
        seconds, body = self._read_seconds(call), Body()
        try:
            with anyio.fail_after(seconds):
                response = await http.send(self._request(http, call, request_id, seconds), stream=True)
                async with aclosing(response):
                    async for chunk in response.aiter_bytes():
                        body.add(chunk)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as fault:
            raise failed(fault, request_id) from fault
        return result(call, body.answer(response))

    # Following.

    async def _follow(self, session_id: str, wish: Wish) -> AsyncGenerator[Event]:
        """Yield a stream's events over as many connections as it takes."""
        following = Following(session_id, wish, self.limits)
        while not following.over:
            fault: ClientError | None = None
            try:
                async with aclosing(self._connection(following)) as connection:
                    async for event in connection:
                        yield event
            except ClientError as broken:
                fault = broken
            if not following.over:
                await anyio.sleep(following.pause(fault))

    async def _connection(self, following: Following) -> AsyncGenerator[Event]:
        """Yield what one connection of a stream brings."""
        request_id = new_request_id()
        try:
            async with self._http() as http:
                request = self._request(http, following.call(), request_id, self.limits.silence_seconds)
                async with aclosing(await http.send(request, stream=True)) as response:
                    if response.status_code not in (200, 204):
                        raise await self._refusal(response)
                    following.opened(response.status_code, response.headers)
                    async for chunk in response.aiter_bytes():
                        for event in following.take(chunk):
                            yield event
                        if following.over:
                            return
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as fault:
            raise failed(fault, request_id) from fault

    async def _refusal(self, response: httpx2.Response) -> ClientError:
        body = Body(LARGEST_ERROR_BYTES)
        with anyio.fail_after(self.limits.answer_seconds):
            async for chunk in response.aiter_bytes():
                body.add(chunk)
        answer = body.answer(response)
        return api_error(answer.status, answer.body, answer.headers)
