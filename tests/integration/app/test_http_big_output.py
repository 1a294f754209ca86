"""GET output of a log of many megabytes: from its middle as fast as from a small one's, in bounded memory."""

from __future__ import annotations

import hashlib
import http.client
import statistics
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from models import claims, segments
from models.endings import Ending
from models.lifecycle import Reason
from models.segments import Stretch
from streams import closing
from streams.entries import Entry, EntryKind, pack
from streams.stored import Tail
from tests.integration.app.holder import ME
from tests.processes import memory_kib, worker_of
from tests.service import FULL_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from tests.integration.app.holder import Holder, Run
    from tests.integration.app.serving import Api, Gunicorn

KIB: Final = 1024
MIB: Final = 1024 * KIB
BIG: Final = (1024 if FULL_LENGTH else 48) * MIB
SMALL: Final = MIB
BLOCK: Final = 64 * KIB
BLOCKS: Final = 4
"""In a stretch, as workers store it."""
STRETCHES: Final = 16
"""In a transaction."""
ASKED: Final = 15
AT_MOST: Final = 3.0
ROOM_KIB: Final = 48 * KIB
"""What the memory of a process may grow by, however much it sends: some pages of a MiB, and what they were unpacked from."""


def block(number: int) -> bytes:
    return b"%016d" % number * (BLOCK // 16)


def ended_with(holder: Holder, session_id: UUID, size: int) -> None:
    """End a session that has printed so many bytes, all of it stored."""
    run = holder.run(session_id)
    digest = hashlib.sha256()
    for first in range(0, size // BLOCK, BLOCKS * STRETCHES):
        numbers = range(first, min(first + BLOCKS * STRETCHES, size // BLOCK))
        for number in numbers:
            digest.update(block(number))
        with holder.web.database.transaction() as tx:
            segments.store(tx, [stretch(run, start) for start in numbers[::BLOCKS]])
    with holder.web.database.transaction() as tx:
        session = claims.held(tx, session_id, run.fence)
        tail = Tail(size // BLOCK, size, digest.hexdigest())
        closing.close(tx, session, Ending(Reason.EXITED, exit_code=0), tail, ME, at=datetime.now(UTC))


def stretch(run: Run, first: int) -> Stretch:
    made = [
        Entry(number + 1, EntryKind.OUTPUT, 0, {"offset": number * BLOCK, "stream": "stdout"}, block(number))
        for number in range(first, first + BLOCKS)
    ]
    blob = b"".join(map(pack, made))
    return Stretch(run.session_id, made[0].seq, made[-1].seq, made[0].offset, made[-1].end_offset, blob)


@contextmanager
def asked(served: Gunicorn, session_id: UUID, start: int) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    headers = {"Authorization": "Bearer ada-key", "Accept": "text/plain", "Range": f"bytes={start}-"}
    try:
        connection.request("GET", f"/api/v1/sessions/{session_id}/output", headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def first_byte_seconds(served: Gunicorn, session_id: UUID, start: int) -> float:
    began = time.perf_counter()
    with asked(served, session_id, start) as answer:
        assert answer.read(1)
        return time.perf_counter() - began


def test_a_range_from_the_middle_of_a_big_log_is_quick_and_costs_no_memory(
    serve: Callable[..., tuple[Gunicorn, Api]], holder: Holder
) -> None:
    served, api = serve()
    small, big = api.create(), api.create()
    ended_with(holder, small, SMALL)
    ended_with(holder, big, BIG)
    middle = BIG // 2 + 5

    took: dict[UUID, list[float]] = {small: [], big: []}
    for _ in range(ASKED):
        took[small].append(first_byte_seconds(served, small, 5))
        took[big].append(first_byte_seconds(served, big, middle))
    assert statistics.median(took[big]) <= AT_MOST * statistics.median(took[small])

    before = memory_kib(worker_of(served.process.pid))
    digest, most = hashlib.sha256(), 0
    with asked(served, big, middle) as answer:
        assert (answer.status, answer.getheader("Content-Range")) == (206, f"bytes {middle}-{BIG - 1}/{BIG}")
        while data := answer.read(MIB):
            digest.update(data)
            most = max(most, memory_kib(worker_of(served.process.pid)))
    assert most - before <= ROOM_KIB

    expected = hashlib.sha256(block(middle // BLOCK)[middle % BLOCK :])
    for number in range(middle // BLOCK + 1, BIG // BLOCK):
        expected.update(block(number))
    assert digest.hexdigest() == expected.hexdigest()
