"""A journal keeps every byte, in order, whatever the chunks and whatever fails meanwhile."""

from __future__ import annotations

import hashlib
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from streams.entries import Entry, EntryKind, pack, unpack, unpack_all, utf8_tail
from streams.journal import ENTRY_BYTES, Journal

SESSION = UUID(int=1)
CHUNKS = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=40)), max_size=30)


def stored(journal: Journal) -> list[Entry]:
    return [entry for stretch in journal.unstored() for entry in unpack_all(stretch.blob)]


@given(CHUNKS)
def test_the_entries_are_the_bytes_of_each_stream_in_order(chunks: list[tuple[str, bytes]]) -> None:
    journal = Journal(SESSION, 1)
    for stream, chunk in chunks:
        journal.write_output(stream, chunk, 0)
    journal.flush_held()
    journal.form()
    entries = stored(journal)

    for stream in ("stdout", "stderr"):
        printed = b"".join(chunk for name, chunk in chunks if name == stream)
        assert b"".join(entry.data for entry in entries if entry.fields["stream"] == stream) == printed
    everything = b"".join(entry.data for entry in entries)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert journal.offset == len(everything)
    assert journal.sha256 == hashlib.sha256(everything).hexdigest()
    offset = 0
    for entry in entries:
        assert entry.offset == offset
        offset = entry.end_offset


@given(st.text(min_size=1, max_size=60), st.lists(st.integers(1, 5), min_size=1, max_size=60))
def test_no_entry_splits_a_character(text: str, sizes: list[int]) -> None:
    journal = Journal(SESSION, 1)
    rest = text.encode()
    for size in [*sizes, len(rest)]:
        journal.write_output("stdout", rest[:size], 0)
        journal.form()
        rest = rest[size:]

    assert "".join(entry.data.decode() for entry in stored(journal)) == text


@given(st.lists(st.sampled_from(["write", "append", "store", "flush", "trim"]), max_size=60))
def test_whatever_fails_and_is_repeated_nothing_is_lost_or_doubled(steps: list[str]) -> None:
    journal = Journal(SESSION, 1)
    redis: dict[int, bytes] = {}
    postgres: dict[int, bytes] = {}
    written = 0
    for step in steps:
        if step == "write":
            journal.write_output("stdout", b"%d\n" % written, 0)
            written += 1
            journal.form()
        elif step == "append" and (batch := journal.to_append()):
            redis.update(batch)
            journal.appended(batch[-1][0])
        elif step == "store" and (stretch := journal.to_store()):
            postgres |= {entry.seq: pack(entry) for entry in unpack_all(stretch.blob)}
            journal.stored(stretch.last_seq)
        elif step == "flush":
            redis.clear()
            journal.forgotten()
        elif step == "trim":
            below = journal.trim_below(0)
            assert all(seq in postgres for seq in range(1, below))
            redis = {seq: blob for seq, blob in redis.items() if seq >= below}
    for entry in stored(journal):
        postgres[entry.seq] = pack(entry)

    entries = [unpack(postgres[seq]) for seq in sorted(postgres)]
    assert b"".join(entry.data for entry in entries) == b"".join(b"%d\n" % n for n in range(written))
    assert sorted(postgres) == list(range(1, len(postgres) + 1))
    assert all(postgres[seq] == blob for seq, blob in redis.items())


def test_the_same_stretch_is_offered_until_it_is_stored() -> None:
    journal = Journal(SESSION, 1)
    journal.write_output("stdout", b"one", 0)
    journal.form()
    first = journal.to_store()
    journal.write_output("stdout", b"two", 0)
    journal.form()

    assert journal.to_store() == first
    assert first is not None
    journal.stored(first.last_seq)
    assert journal.to_store() != first


def test_a_flood_becomes_entries_of_bounded_size() -> None:
    journal = Journal(SESSION, 1)
    journal.write_output("stdout", b"x" * (3 * ENTRY_BYTES + 1), 0)
    journal.form()

    assert max(len(entry.data) for entry in stored(journal)) <= ENTRY_BYTES


def test_what_gathers_during_a_trip_is_one_entry() -> None:
    journal = Journal(SESSION, 1)
    for number in range(100):
        journal.write_output("stdout", b"%d\n" % number, 0)
    journal.form()

    assert len(stored(journal)) == 1


@given(st.binary(max_size=8))
def test_a_held_tail_is_the_beginning_of_a_character(data: bytes) -> None:
    held = utf8_tail(data)

    assert 0 <= held <= min(3, len(data))
    if held:
        lead = data[-held]
        assert lead >= 0xC2


@given(st.text(max_size=20), st.integers(0, 3))
def test_a_cut_inside_a_character_is_found(text: str, cut: int) -> None:
    data = text.encode()
    shorter = data[: len(data) - cut] if cut else data
    kept = shorter[: len(shorter) - utf8_tail(shorter)]

    assert text.startswith(kept.decode())


def test_an_entry_survives_packing() -> None:
    entry = Entry(7, EntryKind.OUTPUT, 1234, {"offset": 5, "stream": "stdout"}, b"\xff\x00")

    assert unpack(pack(entry)) == entry
    assert unpack_all(pack(entry) * 3) == [entry] * 3
