"""The ring of a followed session: what it takes, what it hands out, and when it is not to be trusted."""

from __future__ import annotations

from uuid import UUID

import pytest

from streams.entries import Entry, EntryKind
from streams.ring import Channel

HERE = UUID(int=1)


def output(seq: int, data: bytes = b"x") -> Entry:
    return Entry(seq, EntryKind.OUTPUT, 0, {"offset": seq, "stream": "stdout"}, data)


def end(seq: int) -> Entry:
    return Entry(seq, EntryKind.TERMINATED, 0, {"status": "failed"})


@pytest.fixture
def channel() -> Channel:
    channel = Channel(HERE, ring_bytes=1_000_000)
    channel.begin(10)
    return channel


def seqs(channel: Channel, cursor: int) -> list[int] | None:
    frames = channel.since(cursor)
    return None if frames is None else [frame.seq for frame in frames]


def test_entries_without_a_hole_are_taken_and_handed_out(channel: Channel) -> None:
    assert channel.offer([output(11), output(12)])
    assert channel.offer([output(12), output(13)])
    assert seqs(channel, 11) == [12, 13]
    assert seqs(channel, 13) == []


def test_a_hole_is_refused_and_a_gap_is_not(channel: Channel) -> None:
    assert not channel.offer([output(12)])
    assert channel.last == 10
    assert channel.offer([Entry(500, EntryKind.GAP, 0, {"from": 11, "to": 500, "reason": "lost"}), output(501)])
    assert seqs(channel, 10) == [500, 501]


def test_who_is_behind_the_ring_reads_the_log(channel: Channel) -> None:
    assert seqs(channel, 9) is None


def test_a_log_that_ends_before_what_was_shown_is_read_by_everybody(channel: Channel) -> None:
    channel.offer([output(11), output(12), output(13)])
    waiting = channel.news

    channel.ended_at(12)
    assert waiting.is_set()
    assert seqs(channel, 13) is None


@pytest.mark.parametrize("final_seq", [12, 13])
def test_a_log_that_ends_as_shown_or_later_is_not(channel: Channel, final_seq: int) -> None:
    channel.offer([output(11), end(12)])

    channel.ended_at(final_seq)
    assert seqs(channel, 11) == [12]
    assert not channel.cut_short
