"""Looking for a text in entries of any size: the same places as in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import search
from streams.entries import Entry, EntryKind
from streams.log import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

SESSION = UUID(int=1)


class Pages:
    """A log that gives its entries a few at a time."""

    def __init__(self, entries: Sequence[Entry], page: int, *, ended: bool) -> None:
        self._entries, self._page, self._ended = entries, page, ended

    def read(self, _: UUID, after: int, *, ended: bool = False) -> Reading:
        following = [entry for entry in self._entries if entry.seq > after]
        return Reading(following[: self._page], self._ended and len(following) <= self._page)


def entries(pieces: Sequence[bytes], *, hole_after: int | None = None) -> list[Entry]:
    offset, made = 0, []
    for number, piece in enumerate(pieces, start=1):
        made.append(Entry(number, EntryKind.OUTPUT, 0, {"offset": offset}, piece))
        offset += len(piece) + (10 if number == hole_after else 0)
    return made


def find(
    monkeypatch: pytest.MonkeyPatch,
    log: Pages,
    text: bytes,
    offset: int = 0,
    limit: int = 1000,
    *,
    ignore_case: bool = False,
) -> search.Found:
    with monkeypatch.context() as patch:
        patch.setattr(search, "seq_before", lambda *_: 0)
        sought = search.Sought(text, ignore_case)
        return search.search(log, SESSION, sought, offset, limit, ended=True)  # type: ignore[arg-type]


def places(haystack: bytes, text: bytes, start: int = 0) -> list[int]:
    found = []
    while (at := haystack.find(text, start)) >= 0:
        found.append(at)
        start = at + len(text)
    return found


@given(
    pieces=st.lists(st.text("ab", min_size=1, max_size=6).map(str.encode), max_size=30),
    text=st.text("ab", min_size=1, max_size=5).map(str.encode),
    page=st.integers(1, 5),
    limit=st.integers(1, 4),
    start=st.integers(0, 20),
)
def test_places_are_those_of_the_whole_however_it_is_cut_and_paged(
    pieces: list[bytes], text: bytes, page: int, limit: int, start: int
) -> None:
    whole = b"".join(pieces)
    start = min(start, len(whole))
    log = Pages(entries(pieces), page, ended=True)
    with pytest.MonkeyPatch.context() as patch:
        found, offset = [], start
        for _ in range(100):
            part = find(patch, log, text, offset, limit)
            found += part.matches
            offset = part.next_offset
            if part.complete:
                break

    assert [match.offset for match in found] == places(whole, text, start)
    ends = [(entry.end_offset, entry.seq) for entry in entries(pieces)]
    assert [match.seq for match in found] == [next(seq for end, seq in ends if end > match.offset) for match in found]
    assert offset == len(whole)


def test_nothing_is_found_across_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Pages(entries([b"ab", b"ab", b"ba"], hole_after=1), 5, ended=True)

    assert [match.offset for match in find(monkeypatch, log, b"ba").matches] == [14]


def test_what_goes_on_may_still_begin_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(monkeypatch, Pages(entries([b"xxab"]), 5, ended=False), b"abc")

    assert (found.matches, found.next_offset, found.complete) == ([], 2, False)


def test_case_is_ignored_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Pages(entries([b"ERR", b"or eRRor"]), 1, ended=True)

    assert [match.offset for match in find(monkeypatch, log, b"Error", ignore_case=True).matches] == [0, 6]
    assert find(monkeypatch, log, b"error").matches == []


def test_a_long_log_is_looked_through_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_BYTES", 100)
    log = Pages(entries([b"x" * 60, b"x" * 60, b"yy"]), 1, ended=True)
    first = find(monkeypatch, log, b"yy")

    assert (first.matches, first.next_offset, first.complete) == ([], 119, False)
    second = find(monkeypatch, log, b"yy", first.next_offset)
    assert ([match.offset for match in second.matches], second.complete) == ([120], True)
