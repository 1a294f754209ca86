"""One installation for most of these tests: a web process, a worker with 16 slots, beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.service import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client import Client
    from tests.service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Service]:
    with installed(tmp_path_factory.mktemp("service"), new_database(), WORKER_SLOTS="16") as started:
        started.start("one")
        started.ada.events(started.ada.create("true"))  # the first session of a process pays for its connections
        yield started


@pytest.fixture
def ada(service: Service) -> Client:
    return service.ada
