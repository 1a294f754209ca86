"""GET output."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api

TEXT = {"Accept": "text/plain"}


@pytest.mark.parametrize("ended", [True, False])
def test_output_is_all_that_was_printed_and_says_whether_more_can_come(api: Api, holder: Holder, ended: bool) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    run.write(b"one\n")
    run.write("zwö\n".encode())
    if ended:
        run.end()

    page = api.get(f"/sessions/{session_id}/output").json()

    assert page.pop("retrieved_at").endswith("Z")
    assert page == {
        "session_id": str(session_id),
        "output": "one\nzwö\n",
        "output_length": 9,
        "offset": 0,
        "next_offset": 9,
        "complete": ended,
        "status": "completed" if ended else "active",
    }


def test_a_session_that_has_not_started_has_printed_nothing(api: Api) -> None:
    page = api.get(f"/sessions/{api.create()}/output").json()

    assert (page["output"], page["output_length"], page["complete"]) == ("", 0, False)


def test_pages_join_to_the_whole_and_cut_no_character(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    run.write("aä€😀".encode() * 50)
    run.end()

    offset, whole = 0, ""
    for _ in range(1000):
        page = api.get(f"/sessions/{session_id}/output?offset={offset}&limit=7").json()
        assert page["offset"] == offset
        assert page["output_length"] == page["next_offset"] - offset
        whole, offset = whole + page["output"], page["next_offset"]
        if page["complete"]:
            break

    assert whole == "aä€😀" * 50


def test_the_beginning_of_a_character_at_the_end_is_not_held_back_for_ever(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).write(b"caf\xc3")

    page = api.get(f"/sessions/{session_id}/output").json()

    assert (page["output"], page["next_offset"]) == ("caf\N{REPLACEMENT CHARACTER}", 4)


def test_a_page_smaller_than_a_character_still_gets_on(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    run.write("😀".encode())
    run.end()

    page = api.get(f"/sessions/{session_id}/output?limit=1").json()

    assert (page["output"], page["next_offset"]) == ("\N{REPLACEMENT CHARACTER}", 1)


@pytest.mark.parametrize("how", ["encoding=base64", "view=raw"])
def test_exact_bytes_come_as_base64_and_as_text(api: Api, holder: Holder, how: str) -> None:
    session_id, printed = api.create(), bytes(range(256)) * 20
    run = holder.run(session_id)
    run.write(printed[:1000])
    run.write(printed[1000:])
    run.end()

    page = api.get(f"/sessions/{session_id}/output?{how}&offset=3&limit=5").json()
    assert base64.b64decode(page["output_base64"]) == printed[3:8]
    assert page["next_offset"] == 8
    assert api.get(f"/sessions/{session_id}/output", headers=TEXT).content == printed
    assert api.get(f"/sessions/{session_id}/output?offset=999", headers=TEXT).content == printed[999:]
    assert api.get(f"/sessions/{session_id}/output?offset=999&limit=2", headers=TEXT).content == printed[999:1001]


def test_a_place_behind_the_end_is_no_place(api: Api, holder: Holder) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    run.write(b"abc")
    run.end()

    assert api.get(f"/sessions/{session_id}/output?offset=3").json()["complete"] is True
    answer = api.get(f"/sessions/{session_id}/output?offset=4")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_POSITION")


def printed(api: Api, holder: Holder, *pieces: bytes, ended: bool) -> str:
    """Return the path of the output of a session that printed this."""
    session_id = api.create()
    run = holder.run(session_id)
    for piece in pieces:
        run.write(piece)
    if ended:
        run.end()
    return f"/sessions/{session_id}/output"


@pytest.mark.parametrize("ended", [True, False])
def test_the_last_lines_are_found_and_where_they_begin(api: Api, holder: Holder, ended: bool) -> None:
    path = printed(api, holder, b"1\n2\n", b"3", b"\n4\n", ended=ended)

    for lines, expected in ((1, "4\n"), (2, "3\n4\n"), (4, "1\n2\n3\n4\n"), (9, "1\n2\n3\n4\n")):
        page = api.get(path, params={"tail": lines}).json()
        assert (page["output"], page["offset"], page["next_offset"]) == (expected, 8 - len(expected), 8)
        assert api.get(path, params={"tail": lines}, headers=TEXT).text == expected
    for tail in ("0", "-1", "x", "1.5"):
        assert api.get(path, params={"tail": tail}).json()["error_code"] == "INVALID_POSITION"


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("wanted", "expected", "span"),
    [
        ("bytes=0-0", b"0", "0-0"),
        ("bytes=2-5", b"2345", "2-5"),
        ("bytes=7-", b"789", "7-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=8-99", b"89", "8-9"),
        ("bytes=-99", b"0123456789", "0-9"),
    ],
)
def test_a_range_is_those_bytes(api: Api, holder: Holder, wanted: str, expected: bytes, span: str, ended: bool) -> None:
    path = printed(api, holder, b"01234", b"56789", ended=ended)
    answer = api.get(path, headers={**TEXT, "Range": wanted})

    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["Content-Range"] == f"bytes {span}/10"
    assert answer.headers["Content-Length"] == str(len(expected))


def test_a_range_behind_the_end_is_refused_with_the_size(api: Api, holder: Holder) -> None:
    path = printed(api, holder, b"0123456789", ended=True)
    answer = api.get(path, headers={**TEXT, "Range": "bytes=10-"})

    assert (answer.status_code, answer.json()["error_code"]) == (416, "INVALID_POSITION")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "lines=0-1", "bytes=x", "bytes=5-2", ""])
def test_what_is_no_single_range_of_bytes_is_answered_with_all(api: Api, holder: Holder, wanted: str) -> None:
    path = printed(api, holder, b"0123456789", ended=True)
    answer = api.get(path, headers={**TEXT, "Range": wanted})

    assert (answer.status_code, answer.content, answer.headers["Accept-Ranges"]) == (200, b"0123456789", "bytes")


def test_a_piece_that_is_named_already_and_json_have_no_ranges(api: Api, holder: Holder) -> None:
    path = printed(api, holder, b"0123456789", ended=True)

    assert api.get(path, params={"offset": 3, "limit": 4}, headers={**TEXT, "Range": "bytes=0-0"}).content == b"3456"
    assert api.get(path, headers={**TEXT, "Range": "bytes=0-0", "If-Range": '"x"'}).content == b"0123456789"
    assert api.get(path, headers={"Range": "bytes=0-0"}).json()["output"] == "0123456789"
