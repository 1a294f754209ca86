"""The documentation page in Chromium: everything is shown, something can be tried, and nobody else is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selenium.webdriver.common.by import By

from tests.checks import eventually
from tests.service import ADA

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.service import Service


def test_the_page_shows_every_route_and_tries_one(service: Service, chromium: Chrome) -> None:
    page: Any = chromium
    page.get_log("browser")  # of the pages before
    page.get(f"http://127.0.0.1:{service.port}/api/docs")

    def found(selector: str) -> list[Any]:
        return list(page.find_elements(By.CSS_SELECTOR, selector))

    paths = service.client(None).request("GET", "/api/openapi.json").json()["paths"]
    operations = sum(len({"get", "post", "patch", "delete"} & set(path)) for path in paths.values())
    assert operations >= 30
    eventually(lambda: len(found(".opblock")) == operations)
    found(".btn.authorize")[0].click()
    eventually(lambda: found(".auth-container input"))
    found(".auth-container input")[0].send_keys(ADA)
    found(".auth-container .btn.authorize")[0].click()
    found(".auth-container .btn-done")[0].click()
    (stats,) = found("#operations-Service-show_stats .opblock-summary-control")
    page.execute_script("arguments[0].click()", stats)
    eventually(lambda: found("#operations-Service-show_stats .try-out__btn"))
    page.execute_script("arguments[0].click()", found("#operations-Service-show_stats .try-out__btn")[0])
    eventually(lambda: found("#operations-Service-show_stats .execute"))
    page.execute_script("arguments[0].click()", found("#operations-Service-show_stats .execute")[0])

    def answered() -> bool:
        live = found("#operations-Service-show_stats .live-responses-table")
        return bool(live) and "session_stats" in live[0].text

    eventually(answered)
    assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == []
    asked = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{service.port}/", "data:"))] == []
