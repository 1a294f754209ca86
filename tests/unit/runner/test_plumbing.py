"""Lines as a terminal's editor gathers them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.plumbing import line_lengths


@pytest.mark.parametrize(
    ("body", "begun", "expected"),
    [
        (b"", 0, (0, 0)),
        (b"abc", 0, (3, 3)),
        (b"abc\n", 0, (3, 0)),
        (b"abc\r", 0, (3, 0)),
        (b"ab\nabcd\nabc", 0, (4, 3)),
        (b"ab\n", 4000, (4002, 0)),
    ],
)
def test_the_longest_line_and_what_is_left(body: bytes, begun: int, expected: tuple[int, int]) -> None:
    assert line_lengths(body, begun) == expected


@given(st.lists(st.binary(max_size=20)))
def test_pieces_make_the_lines_that_the_whole_makes(pieces: list[bytes]) -> None:
    begun, longest = 0, 0
    for piece in pieces:
        most, begun = line_lengths(piece, begun)
        longest = max(longest, most)

    assert (longest, begun) == line_lengths(b"".join(pieces), 0)
