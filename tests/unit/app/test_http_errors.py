"""The table from errors to HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.errors import STATUSES
from core import errors
from core.errors import JelmoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

INSIDE = {"INTERNAL_ERROR", "CONFIGURATION_ERROR", "TRANSITION_REFUSED", "FENCED", "SPAWN_FAILED", "CLAIM_REFUSED"}
"""Codes that no client sees."""


def every(kind: type[JelmoreError] = JelmoreError) -> Iterator[type[JelmoreError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from every(below)


def test_every_error_a_client_may_see_has_a_status() -> None:
    missing = {kind.__name__ for kind in every() if kind.code not in INSIDE and kind not in STATUSES}

    assert not missing


def test_errors_that_share_a_code_are_kinds_of_one() -> None:
    for kind in STATUSES:
        sharing = {other for other in STATUSES if other.code == kind.code}
        assert any(all(issubclass(other, parent) for other in sharing) for parent in sharing), kind.code


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("s3cret"), errors.Fenced("s3cret"), errors.TransitionRefused("s3cret", "s3cret"), KeyError("s3cret")],
    ids=lambda fault: type(fault).__name__,
)
def test_what_nobody_foresaw_is_a_500_that_shows_nothing(client: FlaskClient, fault: Exception) -> None:
    def broken() -> str:
        raise fault

    client.application.add_url_rule("/broken", view_func=broken)

    answer = client.get("/broken")

    assert answer.status_code == 500
    assert answer.get_json() | {"timestamp": ""} == {
        "detail": "Internal server error",
        "error_code": "INTERNAL_ERROR",
        "timestamp": "",
    }


def test_an_error_with_a_pause_says_how_long(client: FlaskClient) -> None:
    def full() -> str:
        raise errors.TooManySessions

    client.application.add_url_rule("/full", view_func=full)

    answer = client.get("/full")

    assert (answer.status_code, answer.get_json()["error_code"]) == (429, "TOO_MANY_SESSIONS")
    assert int(answer.headers["Retry-After"]) > 0
