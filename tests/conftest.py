"""What holds for every test: servers on demand, and nothing of the developer's own environment."""

from __future__ import annotations

import os

import pytest

from core.settings import Settings

pytest_plugins = ["tests.servers", "tests.needs", "tests.agents", "tests.talks"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known that says which case of the list of faults a test proves (tests/unit/house/test_cases.py)."""
    config.addinivalue_line("markers", "case(number, ...): the cases of the list of faults that this test proves")


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_developers_environment() -> None:
    """A DATABASE_URL that happens to be set must not be what a test writes to."""
    for name in list(os.environ):  # noqa: TID251  (to empty it, not to read it)
        if name.lower() in Settings.model_fields:
            del os.environ[name]  # noqa: TID251  (as above)
