"""A match is found wherever it lies, whatever the pieces, and nothing is kept that no match can begin in."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import match
from streams.match import Found, Literal, Pattern, PatternFaulty, Search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.match import Needle

OUTPUT = st.binary(max_size=60).map(lambda raw: bytes(b"ab\n "[byte % 4] for byte in raw))
"""Few different bytes: matches, and beginnings of some, are everywhere."""
TEXTS = st.text(alphabet="ab\n ", min_size=1, max_size=4)


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """An output cut anywhere."""
    output = draw(OUTPUT)
    cuts = sorted(draw(st.sets(st.integers(0, len(output)))) | {0, len(output)})
    return [output[start:end] for start, end in itertools.pairwise(cuts)]


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", " ", r"\n", ".", "[ab]", "(?s:.)"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "+?", "*?"])).map(lambda it: f"(?:{it[0]}){it[1]}"),
    ),
    max_leaves=5,
)


def first(needle: Needle, cut: Iterable[bytes], *, offset: int = 0, at_once: int = 1) -> Found | None:
    """Search pieces that begin at byte `offset`, looking after every `at_once` of them."""
    search, end = Search(needle, offset), offset
    waiting = 0
    for piece in cut:
        search.add(end, piece)
        end += len(piece)
        waiting += 1
        if waiting == at_once:
            waiting = 0
            if found := search.look():
                return found
    return search.look()


@given(TEXTS, pieces(), st.integers(1, 5))
def test_a_text_is_found_where_it_stands_first_however_the_output_is_cut(
    text: str, cut: list[bytes], at_once: int
) -> None:
    at = b"".join(cut).find(text.encode())

    assert first(Literal(text.encode()), cut, at_once=at_once) == (None if at < 0 else Found(at, text.encode()))


@given(PATTERNS, pieces(), st.integers(1, 5))
def test_what_a_pattern_finds_does_not_depend_on_when_it_is_looked(
    pattern: str, cut: list[bytes], at_once: int
) -> None:
    assert first(Pattern(pattern), cut, at_once=at_once) == first(Pattern(pattern), cut)


@given(PATTERNS, pieces())
def test_the_first_piece_that_completes_a_match_decides(pattern: str, cut: list[bytes]) -> None:
    expected = None
    for printed in itertools.accumulate(cut):
        # RE2's preferences are Python's; only what is asked of the library here is simple.
        spot = re.search(pattern.encode(), printed) if printed else None
        if spot is not None:
            expected = Found(spot.start(), spot.group())
            break

    assert first(Pattern(pattern), cut) == expected


@given(st.sampled_from(["ab", "b\\n", "a b", "[ab]b ", "(?s:.)b\\n", "a(?:b|\\n)a"]), pieces())
def test_a_pattern_of_one_length_is_found_where_it_matches_first_however_the_output_is_cut(
    pattern: str, cut: list[bytes]
) -> None:
    output = b"".join(cut)
    ends = [spot.end(1) for at in range(len(output)) if (spot := re.compile(f"({pattern})".encode()).match(output, at))]
    found = first(Pattern(pattern), cut)

    assert (found.end if found else None) == min(ends, default=None)


@given(TEXTS, pieces(), st.integers(0, 10))
def test_a_search_in_two_halves_misses_nothing(text: str, cut: list[bytes], half: int) -> None:
    """A client passes on where the first wait said to go on."""
    needle = Literal(text.encode())
    search, end = Search(needle, 0), 0
    for piece in cut[:half]:
        search.add(end, piece)
        end += len(piece)
        if search.look():
            return
    rest = b"".join(cut)[search.resume_at :]

    assert first(needle, [rest], offset=search.resume_at) == first(needle, cut)
    assert end - search.resume_at < len(text)


def test_the_output_before_the_begin_is_not_looked_at() -> None:
    search = Search(Literal(b"ab"), 3)
    search.add(0, b"abab")
    assert search.look() is None
    search.add(4, b"ab")

    assert search.look() == Found(4, b"ab")


def test_a_pattern_finds_as_much_as_was_printed_at_once() -> None:
    assert first(Pattern(r"port \d+"), [b"on port 80", b"80\n"]) == Found(3, b"port 80")
    assert first(Pattern(r"port \d+\s"), [b"on port 80", b"80\n"]) == Found(3, b"port 8080\n")


def test_the_begin_of_a_text_is_where_the_search_began_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "SPAN_BYTES", 4)
    assert first(Pattern("^ab"), [b"ab"], offset=7) == Found(7, b"ab")
    assert first(Pattern("^ab"), [b"x" * 9, b"ab", b"ab"]) is None
    assert first(Pattern("(?m)^ab"), [b"x" * 9, b"ab", b"\n", b"ab"]) == Found(12, b"ab")
    assert first(Pattern(r"\bab"), [b"x" * 9, b"ab", b" ", b"ab"]) == Found(12, b"ab")


def test_a_prompt_is_an_end() -> None:
    assert first(Pattern(r"\$ $"), [b"cost: 5$ ", b"a day\n$ "]) == Found(7, b"$ ")
    assert first(Pattern(r"\$ $"), [b"cost: 5$ ", b"a day\n$ "], at_once=2) == Found(15, b"$ ")


def test_what_must_not_be_followed_by_a_letter_is_seen_when_a_letter_comes() -> None:
    assert first(Pattern(r"ab\B"), [b"ab", b"c"]) == Found(0, b"ab")
    search = Search(Pattern(r"ab\B"), 0)
    search.add(0, b"ab")
    search.look()
    assert search.resume_at == 0


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_no_more_is_kept_than_a_match_may_have(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(match, "SPAN_BYTES", 100)
    search = Search(Pattern(r"<(?s:.*)>"), 0)
    for offset in range(0, 5 * 4096, size):
        search.add(offset, b"<" * size)
        assert search.look() is None

    assert search._buffer == b"<" * 101
    search.add(offset + size, b">")
    assert search.look() == Found(offset + size - 100, b"<" * 100 + b">")


def test_nothing_matches_across_what_is_lost() -> None:
    search = Search(Literal(b"ab"), 0)
    search.add(0, b"a")
    search.look()
    search.add(10, b"b")
    assert search.look() is None
    search.add(11, b"ab")

    assert search.look() == Found(11, b"ab")


def test_output_that_begins_again_before_what_was_lost_is_looked_at() -> None:
    search = Search(Literal(b"ab"), 2)
    search.add(0, b"xxxa")
    search.look()
    search.tear()
    search.add(1, b"ba")
    search.add(3, b"b")

    assert search.look() == Found(2, b"ab")


def test_bytes_that_are_no_text_are_passed_over() -> None:
    assert first(Pattern("b."), ["bä".encode()[:2], b"\xa4"]) == Found(0, "bä".encode())
    assert first(Pattern("b."), [b"b\xff", b"bc"]) == Found(2, b"bc")
    assert first(Literal(b"bc"), [b"b\xff\xfe", b"b", b"c"]) == Found(3, b"bc")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("a(", "missing )"), ("(?=a)", "invalid perl operator"), (r"(a)\1", "invalid escape"), (r"\pL{900}", "too large")],
)
def test_a_pattern_that_cannot_be_taken_says_why(pattern: str, words: str) -> None:
    with pytest.raises(PatternFaulty, match=re.escape(words)):
        Pattern(pattern)


def parts(output: bytes, size: int) -> Sequence[bytes]:
    return [output[at : at + size] for at in range(0, len(output), size)]


@pytest.mark.parametrize("pattern", ["[ab]*a[ab]{999}c", "(?:a?){500}[ab]{500}c", ".{0,900}c"])
def test_a_large_pattern_is_looked_for_in_less_output(pattern: str) -> None:
    needle = Pattern(pattern)
    search = Search(needle, 0)
    search.add(0, b"ab" * search.wants_bytes)

    assert needle.weight * needle.reach <= match.WORK
    assert search.wants_bytes <= max(16 * 1024, needle.reach)
