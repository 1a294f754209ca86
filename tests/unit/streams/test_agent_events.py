"""Entries of programs that converse, as events."""

from __future__ import annotations

from uuid import uuid4

from streams import sse
from streams.entries import Entry, EntryKind, pack, unpack
from streams.journal import Journal

LINE = b'{"type":"assistant","message":{"content":[]},"uuid":"u"}'
AGENT = Entry(7, EntryKind.AGENT, 0, {"type": "assistant", "uuid": "u"}, LINE)


def test_a_message_for_programs_is_what_was_read_from_it_or_its_own_line() -> None:
    at = "1970-01-01T00:00:00.000Z"
    assert sse.members(AGENT) == {"type": "assistant", "uuid": "u", "timestamp": at}
    assert sse.members(AGENT, as_base64=True) == {"type": "assistant", "line": LINE.decode(), "timestamp": at}
    bare = Entry(8, EntryKind.AGENT, 0, {"type": "interrupted", "input_id": "x"})
    assert sse.members(bare, as_base64=True) == {"type": "interrupted", "input_id": "x", "timestamp": at}


def test_its_line_travels_with_it_and_is_no_output() -> None:
    journal = Journal(uuid4(), 1)
    journal.write(EntryKind.AGENT, {"type": "assistant"}, 0, LINE)
    journal.write_output("stdout", b"text", 0)
    journal.form()

    first, second = [unpack(blob) for _, blob in journal.to_append()]
    assert (first.kind, first.data, first.is_output) == (EntryKind.AGENT, LINE, False)
    assert (second.offset, second.data) == (0, b"text")
    assert journal.formed_offset == 4
    assert unpack(pack(AGENT)) == AGENT
