"""Connections for plain threads, and gevent's: sending requests until one is answered, opening streams until they end.

What is sent, when again, and what an answer means is decided elsewhere. The twin for asyncio: `jelmore.client.asynchronous_link`.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import httpx2

from jelmore.client.account import LARGEST_ERROR_BYTES, Account, Body, failed, new_request_id, result
from jelmore.client.errors import ClientError, api_error
from jelmore.client.following import Following
from jelmore.client.retrying import Retries

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

    from jelmore.client.calls import Call
    from jelmore.client.events import Event
    from jelmore.client.following import Wish

T = TypeVar("T")


class Link(Account):
    """An account with connections to its service."""

    _kept: httpx2.Client | None = None

    def __enter__(self) -> Self:
        """Keep connections from here on."""
        self._kept = httpx2.Client(**self._http_options())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close what was kept."""
        self.close()

    def close(self) -> None:
        """Close what was kept; later calls open connections of their own."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    # Sending.

    @contextmanager
    def _http(self) -> Iterator[httpx2.Client]:
        if self._kept is not None:
            yield self._kept
        else:
            with httpx2.Client(**self._http_options()) as http:
                yield http

    def _send(self, call: Call[T]) -> T:
        retries, request_id = Retries(call, self.limits), new_request_id()
        while True:
            try:
                with self._http() as http:
                    return self._send_once(http, call, request_id)
            except ClientError as fault:
                time.sleep(retries.pause(fault))

    def _send_once(self, http: httpx2.Client, call: Call[T], request_id: str) -> T:
        seconds = self._read_seconds(call)
        try:
            response = http.send(self._request(http, call, request_id, seconds), stream=True)
            with closing(response):
                body = _read(response, Body(), seconds)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as fault:
            raise failed(fault, request_id) from fault
        return result(call, body.answer(response))

    # Following.

    def _follow(self, session_id: str, wish: Wish) -> Generator[Event]:
        """Yield a stream's events over as many connections as it takes."""
        following = Following(session_id, wish, self.limits)
        while not following.over:
            fault: ClientError | None = None
            try:
                with closing(self._connection(following)) as connection:
                    yield from connection
            except ClientError as broken:
                fault = broken
            if not following.over:
                time.sleep(following.pause(fault))

    def _connection(self, following: Following) -> Generator[Event]:
        """Yield what one connection of a stream brings."""
        request_id = new_request_id()
        try:
            with self._http() as http:
                request = self._request(http, following.call(), request_id, self.limits.silence_seconds)
                with closing(http.send(request, stream=True)) as response:
                    if response.status_code not in (200, 204):
                        raise self._refusal(response)
                    following.opened(response.status_code, response.headers)
                    for chunk in response.iter_bytes():
                        yield from following.take(chunk)
                        if following.over:
                            return
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as fault:
            raise failed(fault, request_id) from fault

    def _refusal(self, response: httpx2.Response) -> ClientError:
        body = _read(response, Body(LARGEST_ERROR_BYTES), self.limits.answer_seconds)
        answer = body.answer(response)
        return api_error(answer.status, answer.body, answer.headers)


def _read(response: httpx2.Response, body: Body, seconds: float) -> Body:
    """Read a body within a time, which a piece a second would prolong for ever. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    for chunk in response.iter_bytes():
        body.add(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError(f"no whole answer within {seconds:g} s")
    return body
