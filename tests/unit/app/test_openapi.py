"""The API's description: complete, as it was committed, and shown by a page that asks nobody else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from app.docs import POLICY
from app.errors import STATUSES
from app.openapi.operations import OPERATIONS

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

ROOT: Final = Path(__file__).parents[3]
SNAPSHOT: Final = ROOT / "docs" / "openapi.json"
VENDORED: Final = ROOT / "app" / "static" / "swagger-ui"
SUMS: Final = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""sha256 of the files of swagger-ui-dist 5.35.0, as npm has them."""
NOT_DESCRIBED: Final = {"docs.show_document", "docs.show_page", "static_files.show_file"}


def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/api/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found: dict[str, Any] = json.loads(answer.data)
    return found


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_route_is_described_and_nothing_else(client: FlaskClient) -> None:
    app: Flask = client.application
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}

    assert routes - NOT_DESCRIBED == set(OPERATIONS)
    described = {
        operation["operationId"] for methods in document(client)["paths"].values() for operation in methods.values()
    }
    assert described == {endpoint.rpartition(".")[2] for endpoint in OPERATIONS}


def test_changes_of_the_api_show_in_the_committed_description(client: FlaskClient) -> None:
    assert document(client) == json.loads(SNAPSHOT.read_text()), "make openapi writes it"


def test_every_error_is_described_where_it_can_happen(client: FlaskClient) -> None:
    said = json.dumps(list(document(client)["paths"].values()))
    elsewhere = {"NOT_FOUND", "METHOD_NOT_ALLOWED"}  # of paths that are none, and methods that are none

    assert {kind.code for kind in STATUSES} - elsewhere <= set(re.findall(r"`([A-Z_]+)`", said))


def test_references_lead_somewhere_and_no_title_or_secret_is_in_it(client: FlaskClient) -> None:
    found = document(client)
    for reference in references(found):
        part: Any = found
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    assert found["openapi"].startswith("3.1")


def test_it_needs_no_key_counts_nothing_and_is_kept_by_clients(client: FlaskClient) -> None:
    answer = client.get("/api/openapi.json")
    assert "X-RateLimit-Limit" not in answer.headers
    again = client.get("/api/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")


def test_the_page_asks_for_our_own_files_only(client: FlaskClient) -> None:
    answer = client.get("/api/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.headers["Content-Security-Policy"] == POLICY

    links = re.findall(r'(?:src|href|data-document)="([^"]+)"', answer.get_data(as_text=True))
    assert "/api/openapi.json" in links
    for link in links:
        assert link.startswith(("/", "data:"))
        if link.startswith("/"):
            assert client.get(link).status_code == 200


def test_what_came_from_elsewhere_is_as_it_came() -> None:
    sums = {name: hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() for name in SUMS}

    assert sums == SUMS
    assert (VENDORED / "LICENSE").exists()


def test_the_command_prints_it(client: FlaskClient) -> None:
    printed = client.application.test_cli_runner().invoke(args=["openapi"])

    assert printed.exception is None, printed.output
    assert json.loads(printed.output) == document(client)
