"""The module for browsers as a file: to anybody, under the right name, kept by browsers and never stale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask.testing import FlaskClient

MODULE = Path(__file__).parents[3] / "app" / "static" / "jelmore.js"


def test_the_module_needs_no_key_and_has_its_type(client: FlaskClient) -> None:
    answer = client.get("/static/jelmore.js")

    assert (answer.status_code, answer.data) == (200, MODULE.read_bytes())
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_browser_keeps_it_and_asks_whether_it_is_the_same(client: FlaskClient) -> None:
    answer = client.get("/static/jelmore.js")
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get("/static/jelmore.js", headers={"If-None-Match": answer.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", ["", "nothing.js", "../factory.py", "%2e%2e/factory.py", "..%2ffactory.py", "a\0b"])
def test_nothing_else_is_served(client: FlaskClient, path: str) -> None:
    answer = client.get(f"/static/{path}")

    assert answer.status_code == 404
    assert (answer.get_json() or {}).get("error_code") == "NOT_FOUND"


def test_it_is_only_read(client: FlaskClient) -> None:
    assert client.head("/static/jelmore.js").status_code == 200
    assert client.post("/static/jelmore.js").status_code == 405
