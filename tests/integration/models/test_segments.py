"""Stretches of a log: contiguous, and a compare-and-swap between two who believe they hold a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from core.errors import Fenced
from models import segments, sessions
from models.endings import Ending
from models.events import Origin
from models.lifecycle import Reason, Status
from models.segments import Stretch
from streams import closing
from streams.entries import EntryKind, unpack_all
from streams.stored import Tail

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from models.database import Database
    from models.tables import Session

HERE = Origin("test")


def stretch(session_id: UUID, first: int, last: int, *, offset: int = 0, size: int = 0) -> Stretch:
    return Stretch(session_id, first, last, offset, offset + size, b"%d-%d" % (first, last))


def test_of_two_writers_of_the_same_stretch_one_wins(database: Database, new_session: Callable[..., Session]) -> None:
    one, two = new_session().id, new_session().id
    with database.transaction() as tx:
        assert segments.store(tx, [stretch(one, 1, 3)]) == {one}
    with database.transaction() as tx:
        assert segments.store(tx, [stretch(one, 1, 5), stretch(two, 1, 1)]) == {two}
        assert segments.last(tx, one) == (3, 0)


def test_what_follows_a_position_begins_with_the_stretch_that_holds_it(
    database: Database, new_session: Callable[..., Session]
) -> None:
    session_id = new_session().id
    with database.transaction() as tx:
        for first, last in ((1, 3), (4, 4), (5, 9)):
            segments.store(tx, [stretch(session_id, first, last)])

    def firsts(after: int) -> list[int]:
        with database.transaction() as tx:
            return [found.first_seq for found in segments.after(tx, session_id, after, limit=10)]

    assert firsts(0) == [1, 4, 5]
    assert firsts(2) == [1, 4, 5]
    assert firsts(3) == [4, 5]
    assert firsts(8) == [5]
    assert firsts(9) == []


def test_output_is_found_by_offset(database: Database, new_session: Callable[..., Session]) -> None:
    session_id = new_session().id
    with database.transaction() as tx:
        segments.store(tx, [stretch(session_id, 1, 1, offset=0, size=10)])
        segments.store(tx, [stretch(session_id, 2, 2, offset=10, size=0)])
        segments.store(tx, [stretch(session_id, 3, 3, offset=10, size=5)])

        assert [found.first_seq for found in segments.from_offset(tx, session_id, 9, limit=10)] == [1, 2, 3]
        assert [found.first_seq for found in segments.from_offset(tx, session_id, 10, limit=10)] == [3]


def test_one_look_sees_all_followed_sessions(database: Database, new_session: Callable[..., Session]) -> None:
    one, two = new_session().id, new_session().id
    with database.transaction() as tx:
        segments.store(tx, [stretch(one, 1, 7)])
        looks = segments.looked(tx, [one, two])

    assert looks[one].last_stored_seq == 7
    assert looks[two].last_stored_seq == 0
    assert looks[one].final_seq is None


def test_the_end_is_written_once_and_its_last_entry_is_terminated(
    database: Database, new_session: Callable[..., Session], at: datetime
) -> None:
    session_id = new_session().id
    with database.transaction() as tx:
        final = closing.end_unclaimed(tx, session_id, Ending(Reason.REQUESTED, "bye"), HERE, at=at)
    with database.transaction() as tx:
        assert closing.end_unclaimed(tx, session_id, Ending(Reason.REQUESTED), HERE, at=at) == []
        stored = segments.after(tx, session_id, 0, limit=10)
        session = sessions.visible(tx, session_id, None)

    assert [entry.kind for entry in unpack_all(stored[0].blob)] == [EntryKind.STATUS, EntryKind.TERMINATED]
    assert final[-1].fields["status"] == "terminated"
    assert (session.status, session.reason, session.reason_detail) == (Status.TERMINATED, "requested", "bye")
    assert session.last_seq == final[-1].seq


def test_a_stale_holder_cannot_end_a_session_over_somebodys_stretch(
    database: Database, new_session: Callable[..., Session], at: datetime
) -> None:
    session_id = new_session().id
    with database.transaction() as tx:
        segments.store(tx, [stretch(session_id, 1, 4)])
    behind = Tail(0, 0, closing.EMPTY_SHA256, [stretch(session_id, 1, 2)])

    with pytest.raises(Fenced), database.transaction() as tx:
        closing.close(tx, sessions.locked(tx, session_id), Ending(Reason.REQUESTED), behind, HERE, at=at)
    with database.transaction() as tx:
        assert sessions.visible(tx, session_id, None).ended_at is None


def test_a_stretch_is_ones_own_only_byte_for_byte(database: Database, new_session: Callable[..., Session]) -> None:
    session_id = new_session().id
    ours, longer, other = stretch(session_id, 1, 3), stretch(session_id, 1, 5), stretch(session_id, 4, 5)
    with database.transaction() as tx:
        segments.store(tx, [ours])
        assert segments.is_stored(tx, ours)
        assert not segments.is_stored(tx, longer)
        assert not segments.is_stored(tx, other)


def test_what_follows_a_torn_tail_leaves_out_the_numbers_that_may_have_been_seen(
    database: Database, new_session: Callable[..., Session], at: datetime
) -> None:
    session_id = new_session().id
    with database.transaction() as tx:
        session = sessions.locked(tx, session_id)
        segments.store(tx, [stretch(session_id, 1, 7)])
        torn = Tail(7, 0, closing.EMPTY_SHA256, torn=True)
        final = closing.close(tx, session, Ending(Reason.WORKER_LOST, holder_alive=False), torn, HERE, at=at)
        stored = segments.after(tx, session_id, 7, limit=10)

    assert [entry.kind for entry in final] == [EntryKind.GAP, EntryKind.STATUS, EntryKind.TERMINATED]
    gap, status, terminated = final
    assert gap.fields == {"from": 8, "to": gap.seq, "reason": "lost"}
    assert gap.seq == 7 + closing.LOST_AT_MOST
    assert (status.seq, terminated.seq) == (gap.seq + 1, gap.seq + 2)
    assert [(found.first_seq, found.last_seq) for found in stored] == [(8, terminated.seq)]
