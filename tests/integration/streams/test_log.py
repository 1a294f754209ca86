"""Appending and reading a log: nothing lost, repeated or reordered, whatever is emptied, trimmed or late."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete

from models import segments, sessions
from models.endings import Ending
from models.events import Origin
from models.lifecycle import Reason
from models.tables import Segment
from streams import closing, output
from streams.appender import Batch, Refusal
from streams.entries import EntryKind
from streams.journal import Journal
from streams.stored import Tail

if TYPE_CHECKING:
    from uuid import UUID

    import redis

    from models.database import Database
    from streams.appender import Appender
    from streams.log import Log

HERE = Origin("test")


class Holder:
    """A session's writer, a step at a time."""

    def __init__(self, session_id: UUID, appender: Appender, database: Database, fence: int = 1) -> None:
        self.journal = Journal(session_id, fence)
        self._appender = appender
        self._database = database

    def write(self, *texts: str) -> None:
        for text in texts:
            self.journal.write_output("stdout", text.encode(), 0)
            self.journal.form()

    def append(self, *, trim_to: int | None = None) -> int | Refusal:
        journal = self.journal
        below = 0 if trim_to is None else journal.trim_below(trim_to)
        batch = Batch(journal.session_id, journal.fence, journal.to_append(), journal.may_create, below)
        (verdict,) = self._appender.append([batch])
        if isinstance(verdict, int):
            journal.appended(verdict, trimmed_below=below)
        return verdict

    def store(self) -> None:
        stretch = self.journal.to_store()
        assert stretch is not None
        with self._database.transaction() as tx:
            assert segments.store(tx, [stretch])
        self.journal.stored(stretch.last_seq)

    def end(self) -> None:
        journal = self.journal
        journal.form()
        tail = Tail(journal.seq, journal.offset, journal.sha256, journal.unstored())
        with self._database.transaction() as tx:
            session = sessions.locked(tx, journal.session_id)
            closing.close(tx, session, Ending(Reason.NEVER_STARTED), tail, HERE, at=datetime.now(UTC))


@pytest.fixture
def holder(session_id: UUID, appender: Appender, database: Database) -> Holder:
    return Holder(session_id, appender, database)


def printed(log: Log, session_id: UUID, after: int = 0) -> list[str]:
    """Read on, as a follower does, until there is nothing yet."""
    texts = []
    while entries := log.read(session_id, after).entries:
        assert [entry.seq for entry in entries] == list(range(after + 1, after + 1 + len(entries)))
        texts += [entry.data.decode() for entry in entries if entry.is_output]
        after = entries[-1].seq
    return texts


def test_a_batch_that_is_sent_again_changes_nothing(holder: Holder, appender: Appender, log: Log) -> None:
    holder.write("a", "b")
    batch = Batch(holder.journal.session_id, 1, holder.journal.to_append(), may_create=True)

    assert appender.append([batch]) == [2]
    assert appender.append([batch]) == [2]
    assert printed(log, holder.journal.session_id) == ["a", "b"]


def test_a_stale_holder_appends_nothing(holder: Holder, appender: Appender, log: Log) -> None:
    holder.write("a")
    assert holder.append() == 1
    appender.raise_fence(holder.journal.session_id, 2)
    holder.write("b")

    assert holder.append() is Refusal.STALE
    assert printed(log, holder.journal.session_id) == ["a"]


def test_after_a_flush_the_unstored_is_sent_again_and_no_reader_sees_a_hole(
    holder: Holder, client: redis.Redis, log: Log
) -> None:
    session_id = holder.journal.session_id
    holder.write("a", "b")
    holder.append()
    holder.store()
    holder.write("c")
    holder.append()
    client.flushall()

    assert printed(log, session_id) == ["a", "b"]  # "c" is not lost, only not yet to be had
    holder.write("d")
    assert holder.append() is Refusal.UNKNOWN
    holder.journal.forgotten()
    assert holder.append() == 4
    assert printed(log, session_id) == ["a", "b", "c", "d"]
    assert printed(log, session_id, 3) == ["d"]


def test_what_is_trimmed_was_stored(holder: Holder, client: redis.Redis, log: Log) -> None:
    session_id = holder.journal.session_id
    for letter in "abcdef":
        holder.write(letter)
        holder.append()
    holder.append(trim_to=0)
    assert len(log.live(session_id, 0)) == 6  # nothing is stored yet, so nothing is trimmed
    holder.store()
    holder.write("g")
    holder.append(trim_to=0)

    assert log.live(session_id, 0) == []
    assert printed(log, session_id) == list("abcdefg")
    assert printed(log, session_id, 6) == ["g"]


def test_an_ended_log_is_whole_without_redis(holder: Holder, client: redis.Redis, log: Log) -> None:
    session_id = holder.journal.session_id
    holder.write("a")
    holder.append()
    holder.write("b")
    holder.end()
    client.flushall()
    reading = log.read(session_id, 0)

    assert [entry.data for entry in reading.entries if entry.is_output] == [b"a", b"b"]
    assert reading.entries[-1].kind is EntryKind.TERMINATED
    assert reading.ended
    assert reading.entries[-1].fields["output_sha256"] == holder.journal.sha256


def test_a_position_beyond_the_end_gets_the_end_again(holder: Holder, log: Log) -> None:
    holder.write("a")
    holder.end()
    last = log.read(holder.journal.session_id, 0).entries[-1]

    assert log.read(holder.journal.session_id, 99).entries == [last]


def test_a_hole_is_a_gap_only_when_something_later_is_stored(
    holder: Holder, database: Database, client: redis.Redis, log: Log
) -> None:
    session_id = holder.journal.session_id
    holder.write("a")
    holder.append()
    holder.store()
    holder.write("b")
    holder.append()
    holder.store()
    client.flushall()
    with database.transaction() as tx:
        tx.execute(delete(Segment).where(Segment.session_id == session_id, Segment.first_seq == 1))
    entries = log.read(session_id, 0).entries

    assert [entry.kind for entry in entries] == [EntryKind.GAP, EntryKind.OUTPUT]
    assert (entries[0].fields["from"], entries[0].fields["to"]) == (1, 1)


@pytest.mark.parametrize("stored", [0, 3, 6])
def test_output_is_read_from_any_byte(holder: Holder, log: Log, stored: int) -> None:
    session_id = holder.journal.session_id
    for number, text in enumerate(["one\n", "two\n", "three\n", "four\n", "five\n", "six"]):
        if number == stored:
            holder.append()
            holder.store() if number else None
        holder.write(text)
    holder.append()
    whole = b"one\ntwo\nthree\nfour\nfive\nsix"
    if stored == 6:
        holder.store()

    for offset in range(len(whole) + 2):
        for limit in (1, 5, 100):
            assert output.read(log, session_id, offset, limit).data == whole[offset : offset + limit]
    assert b"".join(output.whole(log, session_id)) == whole


@pytest.mark.parametrize(
    ("text", "lines", "expected"),
    [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\nc\n", 9, "a\nb\nc\n"),
        ("a\nb\nc\n", 3, "a\nb\nc\n"),
        ("\n\n\n", 1, "\n"),
        ("abc", 1, "abc"),
        ("", 3, ""),
    ],
)
def test_the_last_lines_are_found(holder: Holder, log: Log, text: str, lines: int, expected: str) -> None:
    for character in text:
        holder.write(character)
    if text:
        holder.append()
    _, offset = output.tail_offset(log, holder.journal.session_id, lines)

    assert text[offset:] == expected
