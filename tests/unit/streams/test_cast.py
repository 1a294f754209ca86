"""Recordings of terminals as asciicasts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from streams import cast
from streams.cast import Resize, Size
from streams.entries import Entry, EntryKind

BEGAN = 1_700_000_000_500


def printed(*pieces: tuple[int, bytes]) -> list[Entry]:
    offset, made = 0, []
    for seq, (at_ms, data) in enumerate(pieces, start=1):
        made.append(Entry(seq, EntryKind.OUTPUT, BEGAN + at_ms, {"offset": offset}, data))
        offset += len(data)
    return made


def events(entries: list[Entry], *resizes: Resize) -> list[list[object]]:
    return [json.loads(line) for line in cast.events(entries, resizes, BEGAN)]


def test_the_head_says_what_players_need() -> None:
    head = cast.header(Size(80, 24), BEGAN, "a session")

    assert head.endswith(b"\n")
    assert json.loads(head) == {
        "version": 2,
        "width": 80,
        "height": 24,
        "timestamp": 1_700_000_000,
        "title": "a session",
    }


def test_output_and_resizes_stand_where_and_when_they_came() -> None:
    entries = [
        *printed((10, b"one"), (250, b"two"), (240, b"three")),
        Entry(4, EntryKind.STATUS, BEGAN, {"status": "idle"}, b""),
    ]
    resizes = [Resize(3, BEGAN + 200, Size(132, 50)), Resize(11, BEGAN + 900, Size(80, 24))]

    assert events(entries, *resizes) == [
        [0.01, "o", "one"],
        [0.2, "r", "132x50"],
        [0.25, "o", "two"],
        [0.25, "o", "three"],
        [0.9, "r", "80x24"],
    ]


@given(st.lists(st.binary(min_size=1, max_size=4), max_size=20))
def test_text_is_that_of_the_whole_however_it_is_cut(pieces: list[bytes]) -> None:
    entries = printed(*((number, piece) for number, piece in enumerate(pieces)))
    text = "".join(str(event[2]) for event in events(entries))

    assert text == b"".join(pieces).decode(errors="replace")
