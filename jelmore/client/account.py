"""What both kinds of clients are made with, and how they put a request together and read its answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import httpx2

from core.version import VERSION
from jelmore.client.calls import Answer, is_failure
from jelmore.client.errors import ConnectionFailed, UnreadableAnswer, api_error
from jelmore.client.limits import Limits

if TYPE_CHECKING:
    import ssl

    from jelmore.client.calls import Call

T = TypeVar("T")

LARGEST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""A thousand sessions of the longest queries and a page of output are well below it."""
LARGEST_ERROR_BYTES: Final = 64 * 1024
NEXT_PAGE: Final = re.compile(r"""<[^>]*[?&]cursor=([^&>]+)[^>]*>\s*;\s*rel="?next\b""")

NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class Account:
    """One key at one service.

    `api_prefix`: the service's API_PREFIX. `verify`: an ssl.SSLContext of your own. Proxies are taken from the environment.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        api_prefix: str = "/api",
        limits: Limits | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Check what is given; nothing connects yet."""
        self.base_url = base_url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {api_key}"}
        self.limits = limits or Limits()
        self._api = f"{self.base_url}{api_prefix.rstrip('/')}/v1"
        if not _is_http(self.base_url):
            raise ValueError("base_url must be a URL that begins with http:// or https://")
        if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
            raise ValueError("api_key must be printable ASCII without blanks around it")
        # Made once: reading the system's certificates takes longer than a request.
        secure = verify is True and self.base_url.startswith("https://")
        self._verify = httpx2.create_ssl_context() if secure else verify

    def __repr__(self) -> str:
        """Show where, never with which key."""
        return f"<{type(self).__name__} {self.base_url}>"

    def _http_options(self) -> dict[str, Any]:
        # No redirects: the service sends none, and another's could carry the key away.
        return {
            "verify": self._verify,
            "follow_redirects": False,
            "timeout": self._timeout(self.limits.answer_seconds),
            # Each stream holds one; how many there are is for who opens them to know.
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        }

    def _timeout(self, read_seconds: float) -> httpx2.Timeout:
        return httpx2.Timeout(read_seconds, connect=self.limits.connect_seconds)

    def _request(
        self, http: httpx2.Client | httpx2.AsyncClient, call: Call[Any], request_id: str, read_seconds: float
    ) -> httpx2.Request:
        """Return a call as httpx2's request."""
        said = {**self.headers, "User-Agent": f"jelmore-client/{VERSION}", "X-Request-ID": request_id, **call.headers}
        return http.build_request(
            call.method,
            f"{self.base_url}{call.path[1:]}" if call.path.startswith("//") else f"{self._api}{call.path}",
            params=urlencode(call.params),
            headers=said,
            json=call.body,
            timeout=self._timeout(read_seconds),
        )

    def _read_seconds(self, call: Call[Any]) -> float:
        """Return how long a request may take altogether."""
        return self.limits.answer_seconds + call.waits_seconds


def _is_http(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


class Body:
    """An answer's body as it comes, bounded."""

    def __init__(self, limit: int = LARGEST_ANSWER_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Take a piece. Raises UnreadableAnswer for more than the service ever sends."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise UnreadableAnswer(f"The answer is larger than {self._limit} bytes.")

    def answer(self, response: httpx2.Response) -> Answer:
        """Return the answer it belongs to."""
        return Answer(response.status_code, response.headers, b"".join(self._parts))


def result(call: Call[T], answer: Answer) -> T:
    """Return what an answer says. Raises the ApiError that it is."""
    if is_failure(call, answer):
        raise api_error(answer.status, answer.body, answer.headers)
    return call.read(answer)


def failed(fault: Exception, request_id: str) -> ConnectionFailed:
    """Return what became of a request without an answer."""
    detail = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    return ConnectionFailed(f"{detail} (request {request_id})", request_id, sent=not isinstance(fault, NOT_SENT))


def new_request_id() -> str:
    """Return an id under which the service logs a request."""
    return uuid4().hex


def next_cursor(link: str) -> str | None:
    """Return where the next page begins. Only that is taken of the URL: whoever stands between may know us by another name."""
    found = NEXT_PAGE.search(link)
    return httpx2.QueryParams(f"cursor={found.group(1)}")["cursor"] if found else None
