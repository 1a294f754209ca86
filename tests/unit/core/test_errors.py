"""The tree of errors: stable codes, sentences as messages, nothing of HTTP."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from core import errors
from core.errors import ConfigurationError, JelmoreError, TransitionRefused, ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

# What clients may rely on. A code that is taken away or renamed breaks them.
CONTRACT = {
    "MALFORMED_BODY",
    "VALIDATION_FAILED",
    "UNSUPPORTED_MEDIA_TYPE",
    "BODY_TOO_LARGE",
    "LENGTH_REQUIRED",
    "INVALID_POSITION",
    "KEY_IN_QUERY",
    "API_KEY_REQUIRED",
    "INVALID_API_KEY",
    "TICKET_INVALID",
    "INSUFFICIENT_PERMISSIONS",
    "NOT_FOUND",
    "SESSION_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "SESSION_ENDED",
    "SESSION_ENDING",
    "NOT_STARTED",
    "NO_TERMINAL",
    "IDEMPOTENCY_IN_PROGRESS",
    "IDEMPOTENCY_KEY_REUSED",
    "DIRECTORY_NOT_ALLOWED",
    "UNKNOWN_PROGRAM",
    "LINE_TOO_LONG",
    "OUTPUT_EXPIRED",
    "RATE_LIMITED",
    "TOO_MANY_SESSIONS",
    "TOO_MANY_STREAMS",
    "DATABASE_UNAVAILABLE",
    "INTERNAL_ERROR",
}
# The contract gives these two word for word.
NO_SENTENCES = {errors.ApiKeyRequired, errors.InvalidApiKey}
BARE = "import sys, core.errors; print({name.split('.')[0] for name in sys.modules} - {*sys.stdlib_module_names, '__main__'})"


def tree(root: type[JelmoreError] = JelmoreError) -> Iterator[type[JelmoreError]]:
    yield root
    for branch in root.__subclasses__():
        yield from tree(branch)


def test_every_code_of_the_contract_has_its_error() -> None:
    assert {error.code for error in tree()} >= CONTRACT


def test_no_two_errors_share_a_code_of_their_own() -> None:
    own = [vars(error)["code"] for error in tree() if "code" in vars(error)]

    assert len(own) == len(set(own))


@pytest.mark.parametrize("error", sorted(tree(), key=repr))
def test_an_errors_docstring_is_its_sentence(error: type[JelmoreError]) -> None:
    said = error.__doc__ or ""

    assert "\n" not in said
    assert said[0].isupper()
    assert said.endswith(".") or error in NO_SENTENCES


def test_an_error_says_its_docstring_unless_told_what() -> None:
    assert errors.SessionEnded().detail == str(errors.SessionEnded()) == "The session has ended."
    assert errors.SessionEnded("It ended at noon.").detail == "It ended at noon."


def test_validation_says_what_is_wrong_where() -> None:
    faults = [{"loc": ["query"], "msg": "too long", "type": "value_error"}]

    assert ValidationFailed(errors=faults).errors == faults
    assert ValidationFailed("Bad.").errors == []


def test_a_refused_transition_says_from_where_and_by_what() -> None:
    refused = TransitionRefused("completed", "exited")

    assert (refused.status, refused.trigger) == ("completed", "exited")
    assert "completed" in refused.detail
    assert "exited" in refused.detail


def test_a_configuration_error_lists_every_fault() -> None:
    error = ConfigurationError(["PORT is odd.", "REDIS_URL is blue."])

    assert error.faults == ["PORT is odd.", "REDIS_URL is blue."]
    assert all(fault in str(error) for fault in error.faults)


@pytest.mark.parametrize(
    "error", [errors.DatabaseUnavailable, errors.TooManySessions, errors.TooManyStreams, errors.TooManyStreamsOfKey]
)
def test_what_passes_by_itself_says_when_to_try_again(error: type[JelmoreError]) -> None:
    assert (error.retry_after_seconds or 0) > 0


def test_errors_need_nothing_but_python() -> None:
    loaded = subprocess.run([sys.executable, "-S", "-c", BARE], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "{'core'}"
