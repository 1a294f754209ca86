"""Fifty megabytes, to three readers: what one program printed is what every reader gets, and the worker does not grow."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.checks import eventually
from tests.client import Reader

if TYPE_CHECKING:
    from tests.service import Service

FLOOD = "seq 1 7000000"
FLOOD_BYTES = 54_888_896
KIB = 1024
KILLED_AT = (0.25, 0.5)
"""How much of it the cut reader has each time the web process is killed."""


def has_read(reader: Reader, size: float) -> bool:
    return reader.size > size


@pytest.mark.timeout(150)
@pytest.mark.case(4, 36)
def test_a_flood_arrives_complete_at_every_reader_though_the_web_process_is_killed(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = service.worker("one")
    idle_kib = worker.memory_kib("VmRSS")
    session_id = service.ada.create(FLOOD)
    began = time.monotonic()
    fast = Reader(service.ada, session_id, limit_seconds=120)
    slow = Reader(service.ada, session_id, nap_seconds=0.01, limit_seconds=120)
    cut = Reader(service.ada, session_id, cut_seconds=0.2, limit_seconds=120)

    for share in KILLED_AT:
        eventually(partial(has_read, cut, FLOOD_BYTES * share), 60)
        service.web.kill()
        service.web.start()

    ends = [reader.finish() for reader in (fast, slow, cut)]

    assert ends[0]["output_bytes"] == FLOOD_BYTES
    assert {end["output_sha256"] for end in ends} == {fast.sha256} == {slow.sha256} == {cut.sha256}
    assert cut.connections > 2 * len(KILLED_AT)
    most_kib = worker.memory_kib("VmHWM")
    with capsys.disabled():
        seconds = time.monotonic() - began
        print(f"\n  flood: {seconds:.1f} s; worker {idle_kib // KIB} MiB idle, at most {most_kib // KIB} MiB")
    assert most_kib < 3 * idle_kib + 150 * KIB
