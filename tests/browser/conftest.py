"""A browser, a page of the service's own origin, and an installation behind a proxy that cuts connections."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.needs import needs
from tests.proxy import Proxy
from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from tests.service import Service

FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)
SCRIPT_SECONDS: Final = 60
PAGE: Final = b"<!doctype html><meta charset=utf-8><title>page</title>"
# As strict as a page can be that runs the module and lets it speak to the service.
POLICY: Final = b"default-src 'none'; script-src 'self'; connect-src 'self'"
POLICY_FOR_STRANGERS: Final = POLICY.replace(b"connect-src 'self'", b"connect-src *")
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
ANSWER: Final = HEAD + b"Content-Security-Policy: %b\r\nContent-Length: %d\r\n\r\n%b"

IN_THE_PAGE: Final = """
const [args, done] = [[...arguments].slice(0, -1), arguments[arguments.length - 1]];
const body = async (jelmore, args) => { %s };
import('/static/jelmore.js').then((jelmore) => body(jelmore, args)).then(
    (value) => done({ value }), (error) => done({ error: String(error?.stack ?? error) }));
"""


class Front(Proxy):
    """What stands before the service and gives a page of its own: the page and the service are one origin."""

    def _connect(self, near: socket.socket) -> None:
        # Browsers open connections they may never use: this thread then waits for its end.
        begin = near.recv(64, socket.MSG_PEEK)
        if begin.startswith(b"GET /page"):
            near.recv(65536)
            policy = POLICY_FOR_STRANGERS if begin.startswith(b"GET /page/of/strangers") else POLICY
            near.sendall(ANSWER % (policy, len(PAGE), PAGE))
            near.close()
        else:
            super()._connect(near)

    @property
    def origin(self) -> str:
        """The page's origin, and the service's by this way."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Page:
    """An open page."""

    driver: Chrome
    front: Front

    def run(self, body: str, *args: object) -> Any:
        """Run an async function's body in the page and return what it returns. It has `jelmore`, the module, and `args`."""
        answer = self.driver.execute_async_script(IN_THE_PAGE % body, *args)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def urls(self) -> list[str]:
        """Every URL the page has asked for."""
        script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        return list(self.driver.execute_script(script))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    with installed(tmp_path_factory.mktemp("browser"), new_database(), WORKER_SLOTS="16") as started:
        started.start("one")
        yield started


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    binary, driver_path = needs("chromium"), needs("chromedriver")
    # Here: without a browser nothing of it is loaded.
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = binary
    profile: Path = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(driver_path))
    try:
        driver.set_script_timeout(SCRIPT_SECONDS)
        driver.set_page_load_timeout(SCRIPT_SECONDS)
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def front(service: Service) -> Iterator[Front]:
    between = Front(f"http://127.0.0.1:{service.port}")
    yield between
    between.close()


@pytest.fixture
def page(chromium: Chrome, front: Front) -> Page:
    chromium.get(f"{front.origin}/page")
    return Page(chromium, front)
